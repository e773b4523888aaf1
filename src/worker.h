/*
 * worker.h
 *		The background worker of one database.
 */
#ifndef PIGEON_WORKER_H
#define PIGEON_WORKER_H

#include "fmgr.h"

extern PGDLLEXPORT void pgn_worker_main(Datum database);

#endif							/* PIGEON_WORKER_H */
