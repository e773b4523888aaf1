/*
 * outbox.h
 *		Publishing the changes of a table.
 */
#ifndef PIGEON_OUTBOX_H
#define PIGEON_OUTBOX_H

#include "topic.h"

/* Arguments of the trigger: the topic, the column to group by, and the columns to show. */
#define PGN_OUTBOX_TOPIC 0
#define PGN_OUTBOX_GROUP_BY 1	/* empty: none */
#define PGN_OUTBOX_COLUMNS 2	/* none: all */

extern char *pgn_outbox_source(const Topic *topic);

#endif							/* PIGEON_OUTBOX_H */
