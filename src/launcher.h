/*
 * launcher.h
 *		Starting a worker for each database that needs one.
 */
#ifndef PIGEON_LAUNCHER_H
#define PIGEON_LAUNCHER_H

#include "fmgr.h"

extern void pgn_launcher_init(void);
extern PGDLLEXPORT void pgn_launcher_main(Datum unused);
extern bool pgn_hold_database(Oid database);
extern void pgn_release_database(Oid database);
extern void pgn_databases_changed(void);
extern void pgn_wake_launcher(void);

#endif							/* PIGEON_LAUNCHER_H */
