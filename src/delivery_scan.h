/*
 * delivery_scan.h
 *		Walks over the deliveries of a queue.
 */
#ifndef PIGEON_DELIVERY_SCAN_H
#define PIGEON_DELIVERY_SCAN_H

#include "access/genam.h"
#include "executor/tuptable.h"
#include "utils/snapshot.h"

#include "delivery.h"

/* A walk over the deliveries of a queue. */
typedef struct DeliveryScan
{
	DeliveryTable *deliveries;
	IndexScanDesc scan;			/* NULL if it is of places, or not begun */
	bool		first_versions; /* of each entry of the index only the first
								 * that is not dead */
	TupleTableSlot *slot;
	SnapshotData dirty;
} DeliveryScan;

extern void pgn_due_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries, int16 lane,
							   TimestampTz from, TimestampTz until);
extern void pgn_message_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries,
								   int64 from_message_id, int64 to_message_id, Snapshot snapshot);
extern void pgn_group_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries);
extern void pgn_group_scan_restart(DeliveryScan *scan, int64 group_key, int64 from_message_id);
extern void pgn_group_scan_back_begin(DeliveryScan *scan, DeliveryTable *deliveries);
extern void pgn_group_scan_back_restart(DeliveryScan *scan, int64 group_key, int64 to_message_id);
extern void pgn_message_scan_range(DeliveryScan *scan, int64 from_message_id, int64 to_message_id);
extern void pgn_message_scan_restart(DeliveryScan *scan, int64 message_id, int32 home);
extern void pgn_place_scan_begin(DeliveryScan *scan, DeliveryTable *deliveries);
extern bool pgn_scan_place(DeliveryScan *scan, ItemPointer place, DeliveryVersion *version);
extern bool pgn_scan_known(DeliveryScan *scan, int64 message_id, int32 home, DeliveryVersion *version);
extern void pgn_scan_skip_versions(DeliveryScan *scan);
extern int	pgn_scan_ahead(DeliveryScan *scan, ItemPointerData *places, int max, TimestampTz *until);
extern bool pgn_scan_any(DeliveryScan *scan);
extern bool pgn_scan_next(DeliveryScan *scan, DeliveryVersion *version);
extern bool pgn_scan_next_within(DeliveryScan *scan, DeliveryVersion *version, int64 *limit);
extern bool pgn_scan_count(DeliveryScan *scan, int64 limit, int64 *count);
extern TimestampTz pgn_last_due(DeliveryTable *deliveries, int16 lane);
extern void pgn_scan_end(DeliveryScan *scan);
extern bool pgn_delivery_is_there(DeliveryTable *deliveries, int64 message_id, int32 home);

#endif							/* PIGEON_DELIVERY_SCAN_H */
