/*
 * pigeon.h
 *		Settings.
 */
#ifndef PIGEON_H
#define PIGEON_H

extern int	pgn_max_queues;
extern int	pgn_log_segment_size;	/* kilobytes */
extern int	pgn_log_segment_age;	/* seconds */
extern int	pgn_log_snapshot_threshold; /* seconds */
extern bool pgn_durable_leases;
extern int	pgn_max_visibility; /* seconds */
extern int	pgn_poll_interval;	/* milliseconds */
extern int	pgn_notify_interval;	/* milliseconds */
extern int	pgn_max_workers;

#endif							/* PIGEON_H */
