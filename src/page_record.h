/*
 * page_record.h
 *		Generic WAL records, made by who knows what has changed.
 */
#ifndef PIGEON_PAGE_RECORD_H
#define PIGEON_PAGE_RECORD_H

#include "storage/buf.h"
#include "storage/off.h"
#include "utils/rel.h"

/* A part of a page, as a generic record has it before the bytes; one of no length is none. */
typedef struct PagePart
{
	OffsetNumber start;
	OffsetNumber length;
} PagePart;

extern void pgn_page_record(Relation rel, Buffer buffer, const PagePart *parts, int n);

#endif							/* PIGEON_PAGE_RECORD_H */
