/*
 * envelope.h
 *		The envelope in which a topic's messages come if delivery is not raw.
 */
#ifndef PIGEON_ENVELOPE_H
#define PIGEON_ENVELOPE_H

#include "log_reader.h"

extern text *pgn_envelope(const LogEntry *entry, bool fifo);

#endif							/* PIGEON_ENVELOPE_H */
