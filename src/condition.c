/*
 * condition.c
 *		Conditions on the old and new row of a change.
 *
 * A condition is an SQL expression over OLD and NEW.  It becomes the WHEN
 * clause of a trigger, so PostgreSQL itself parses it, binds its names once
 * and for all to what they mean now, and dumps and restores it.  Two things
 * are left to do here.
 *
 * It must be one expression and nothing else, since it is put between
 * parentheses in a CREATE TRIGGER statement.  PostgreSQL's grammar decides: in
 * "SELECT (condition)" there must be nothing but one target.
 *
 * One condition is for all events, but an INSERT has no OLD and a DELETE no
 * NEW, and a WHEN clause must not mention what is not there.  The row that an
 * event lacks counts as a row of nulls, as it does in PL/pgSQL: references to
 * it are replaced by nulls of the same types.
 */
#include "postgres.h"

#include <ctype.h>

#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"

#include "condition.h"

#define PREFIX "SELECT ("

/* What the walk over the expression looks for and finds. */
typedef struct References
{
	const char *absent;			/* "old" or "new" */
	List	   *refs;			/* ColumnRefs to it, in no order */
	List	   *expanded;		/* nodes of which "row.*" means many columns */
} References;

/* The expression's parse tree; an error if it is not a single expression. */
static Node *
parse_expression(const char *statement)
{
	List	   *statements = raw_parser(statement, RAW_PARSE_DEFAULT);
	SelectStmt *select = list_length(statements) == 1 &&
	IsA(linitial_node(RawStmt, statements)->stmt, SelectStmt) ?
	(SelectStmt *) linitial_node(RawStmt, statements)->stmt : NULL;
	SelectStmt *plain = makeNode(SelectStmt);
	ResTarget  *target;

	if (select && list_length(select->targetList) == 1)
	{
		plain->targetList = select->targetList;
		target = linitial_node(ResTarget, select->targetList);
		if (equal(select, plain) && target->name == NULL && target->indirection == NIL)
			return target->val;
	}
	ereport(ERROR,
			(errcode(ERRCODE_SYNTAX_ERROR),
			 errmsg("condition is not a single expression"),
			 errhint("Write an expression over OLD and NEW, such as NEW.status = 'paid'.")));
}

/* Tree walker: collect the references to the row that is not there. */
static bool
find_references(Node *node, void *context)
{
	References *references = context;

	if (node == NULL)
		return false;
	if (IsA(node, ColumnRef))
	{
		Node	   *first = linitial(((ColumnRef *) node)->fields);

		if (IsA(first, String) && strcmp(strVal(first), references->absent) == 0)
			references->refs = lappend(references->refs, node);
		return false;
	}
	if (IsA(node, RowExpr))
		references->expanded = list_concat(references->expanded, ((RowExpr *) node)->args);
	return raw_expression_tree_walker(node, find_references, context);
}

/* Order references by their place, the last first. */
static int
compare_places(const ListCell *a, const ListCell *b)
{
	return ((ColumnRef *) lfirst(b))->location - ((ColumnRef *) lfirst(a))->location;
}

/* The end of the identifier or star that starts here; NULL if there is none. */
static const char *
skip_name(const char *p)
{
	const char *start = p;

	if (*p == '*')
		return p + 1;
	if (*p == '"')
	{
		for (p++; *p != '\0'; p++)
		{
			if (p[0] != '"')
				continue;
			if (p[1] != '"')
				return p + 1;
			p++;
		}
		return NULL;
	}
	while (isalnum((unsigned char) *p) || *p == '_' || *p == '$' || IS_HIGHBIT_SET(*p))
		p++;
	return p > start ? p : NULL;
}

/* The place behind blanks. */
static const char *
skip_blanks(const char *p)
{
	while (scanner_isspace(*p))
		p++;
	return p;
}

/* The end of the reference that starts here: a row, or a row and a column. */
static const char *
skip_reference(const char *p, int nnames)
{
	p = skip_name(p);
	if (p != NULL && nnames == 2)
	{
		p = skip_blanks(p);
		p = *p == '.' ? skip_name(skip_blanks(p + 1)) : NULL;
	}
	if (p == NULL || nnames > 2)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("condition refers to OLD or NEW in a form that is not supported"),
				 errhint("Write OLD.column or (OLD.column).field, without comments in between.")));
	return p;
}

/*
 * What a reference to a row that is not there stands for; NULL if there is no
 * such column.  "row.*" is the columns of the row if it is expanded, and the row
 * itself elsewhere.
 */
static char *
null_value(const ColumnRef *ref, bool is_expanded, Oid relid)
{
	const char *table = quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
												   get_rel_name(relid));
	Node	   *second = list_length(ref->fields) == 2 ? lsecond(ref->fields) : NULL;
	AttrNumber	attnum;
	Oid			type,
				collation;
	int32		typmod;

	if (second == NULL)
		return psprintf("(CAST(NULL AS %s))", table);
	if (IsA(second, A_Star))
		return psprintf(is_expanded ? "(CAST(NULL AS %s)).*" : "(CAST(NULL AS %s))", table);
	attnum = get_attnum(relid, strVal(second));
	if (attnum == InvalidAttrNumber)
		return NULL;
	get_atttypetypmodcoll(relid, attnum, &type, &typmod, &collation);
	/* A domain may not allow NULL. */
	type = getBaseTypeAndTypmod(type, &typmod);
	return psprintf("(CAST(NULL AS %s))",
					format_type_extended(type, typmod,
										 FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY));
}

/*
 * A condition on changes of a table as the expression of a WHEN clause.
 * "absent" is the row that the event lacks, "old" or "new", or NULL.  Fails
 * if the condition is not a single expression.
 */
char *
pgn_condition(const char *condition, Oid relid, const char *absent)
{
	char	   *statement = psprintf(PREFIX "%s\n)", condition);
	References	references = {.absent = absent};
	Node	   *expression = parse_expression(statement);
	ListCell   *lc;

	if (absent != NULL)
		(void) find_references(expression, &references);
	list_sort(references.refs, compare_places);
	foreach(lc, references.refs)
	{
		ColumnRef  *ref = lfirst(lc);
		const char *end = skip_reference(statement + ref->location, list_length(ref->fields));
		char	   *replacement = null_value(ref, list_member_ptr(references.expanded, ref), relid);

		if (replacement != NULL)
			statement = psprintf("%.*s%s%s", ref->location, statement, replacement, end);
	}
	/* Without the prefix and the closing parenthesis. */
	statement[strlen(statement) - 1] = '\0';
	return statement + strlen(PREFIX);
}
