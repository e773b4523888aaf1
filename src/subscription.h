/*
 * subscription.h
 *		Who may do what with a subscription.
 */
#ifndef PIGEON_SUBSCRIPTION_H
#define PIGEON_SUBSCRIPTION_H

#include "fmgr.h"

extern int32 pgn_subscription_argument(FunctionCallInfo fcinfo);
extern int32 pgn_check_subscription_owner(int32 subscription_id);

#endif							/* PIGEON_SUBSCRIPTION_H */
