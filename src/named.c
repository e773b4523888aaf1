/*
 * named.c
 *		The schema, and what queues and topics have in common: a name, a
 *		relation, its rights.
 *
 * A queue is a table and a topic a view, and the rights on them are those of
 * the table or view.  The lock on it guards what a backend remembers of the
 * queue or topic: whoever changes that sends a relcache invalidation, which
 * arrives at the latest when the lock is taken.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "compat.h"
#include "named.h"

/* The schema that holds everything; an error if the extension is not there. */
Oid
pgn_schema(void)
{
	return get_namespace_oid("pigeon", false);
}

/* A relation of the schema by name, InvalidOid if there is none. */
Oid
pgn_relation(const char *name)
{
	return get_relname_relid(name, pgn_schema());
}

/*
 * Lock the relation of a queue or topic.  False, and no lock, if what we know
 * of it turned out to be out of date (*valid is false then): look it up again.
 * Unless the caller wants to wait, also false if the lock cannot be had at once.
 */
bool
pgn_named_lock(Oid relid, const bool *valid, LOCKMODE lockmode, bool wait)
{
	if (wait)
		LockRelationOid(relid, lockmode);
	else if (!ConditionalLockRelationOid(relid, lockmode))
		return false;
	if (*valid)
		return true;
	UnlockRelationOid(relid, lockmode);
	return false;
}

/*
 * Has a table (or view) that nobody keeps from being dropped just been dropped?
 * Then what is remembered of it is out of date, and is forgotten.  If not, its
 * rights can be looked up.
 */
bool
pgn_just_dropped(Oid relid)
{
	CHECK_FOR_INTERRUPTS();
	if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(relid)))
		return false;
	AcceptInvalidationMessages();
	return true;
}

/* Complain that there is no queue or topic of this name. */
void
pgn_unknown(const char *kind, const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("%s \"%s\" does not exist", kind, name),
			 errhint("Create it with pigeon.create_%s().", kind)));
}

/* Has a role one of these rights on a relation?  False, too, if that was just dropped. */
bool
pgn_has_right(Oid relid, AclMode rights, Oid role)
{
	bool		is_missing = false;

	/* Only who asks whether it is missing gets no error if it is. */
	return pg_class_aclcheck_ext(relid, role, rights, &is_missing) == ACLCHECK_OK;
}

/* The owner of a relation; InvalidOid if that was just dropped. */
Oid
pgn_relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		return InvalidOid;
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
}

/* Is a role the owner of a relation, or a member of the owner?  False, too, if that was just dropped. */
bool
pgn_is_owner(Oid relid, Oid role)
{
	Oid			owner = pgn_relation_owner(relid);

	return OidIsValid(owner) && has_privs_of_role(role, owner);
}

/* Fail unless a role has all of these rights on the relation. */
void
pgn_check_rights(const char *kind, const char *name, Oid relid, AclMode rights, Oid role)
{
	for (AclMode right = 1; right <= rights; right <<= 1)
	{
		if (!(rights & right) || pgn_has_right(relid, right, role))
			continue;
		if (pgn_just_dropped(relid))
			pgn_unknown(kind, name);
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied for %s \"%s\"", kind, name),
				 errhint("Its owner can grant the right with pigeon.grant_access().")));
	}
}

/* Fail unless the current user owns the relation. */
void
pgn_check_owner(const char *kind, const char *name, Oid relid)
{
	if (pgn_is_owner(relid, GetUserId()))
		return;
	if (pgn_just_dropped(relid))
		pgn_unknown(kind, name);
	ereport(ERROR,
			(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
			 errmsg("must be owner of %s \"%s\"", kind, name)));
}

/* Fail unless the current user may create queues and topics. */
void
pgn_check_may_create(const char *kind)
{
	if (!pgn_may_create_in_schema(pgn_schema(), GetUserId()))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("permission denied to create a %s", kind),
				 errhint("Creating %ss needs CREATE on schema pigeon.", kind)));
}
