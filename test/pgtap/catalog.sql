-- Rules that every object of the extension keeps.
CREATE EXTENSION plpgsql_check;
SELECT plan(5);

CREATE TEMP VIEW member AS
	SELECT classid, objid FROM pg_depend
	WHERE deptype = 'e' AND refclassid = 'pg_extension'::regclass
	AND refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pigeon');
CREATE TEMP VIEW member_function AS
	SELECT p.*, p.oid::regprocedure AS signature, l.lanname
	FROM member JOIN pg_proc p ON classid = 'pg_proc'::regclass AND objid = p.oid
	JOIN pg_language l ON l.oid = prolang;

SELECT is_empty($$
	SELECT signature, message FROM member_function,
		plpgsql_check_function_tb(signature::regprocedure, fatal_errors => false) WHERE lanname = 'plpgsql'
	$$, 'plpgsql_check finds nothing');

SELECT is_empty($$
	SELECT signature FROM member_function
	WHERE (lanname = 'plpgsql' OR lanname = 'sql' AND prosqlbody IS NULL)
	AND NOT coalesce(array_to_string(proconfig, ' ') ~ 'search_path=pg_catalog, pg_temp', false)
	$$, 'no function finds names by the search_path of its caller');

SELECT is_empty($$
	SELECT signature FROM member_function WHERE obj_description(oid, 'pg_proc') IS NULL
	$$, 'every function has a comment');

SELECT is_empty($$
	SELECT objid::regclass FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid
	WHERE relkind IN ('r', 'v') AND obj_description(objid, 'pg_class') IS NULL
	$$, 'every table and view has a comment');

SELECT is_empty($$
	SELECT objid::regclass, (a).privilege_type
	FROM member JOIN pg_class c ON classid = 'pg_class'::regclass AND objid = c.oid, aclexplode(relacl) AS a
	WHERE (a).grantee = 0 AND NOT (relkind = 'v' AND (a).privilege_type = 'SELECT')
	$$, 'PUBLIC has no right on any table or sequence, and reads views');

SELECT * FROM finish();
