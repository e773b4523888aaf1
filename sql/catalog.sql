-- What the extension consists of, and rules that all of it keeps.
SET client_min_messages = warning;
CREATE EXTENSION IF NOT EXISTS pigeon;
\pset format unaligned
\pset tuples_only on

\echo == routines, and whether PUBLIC may call them
SELECT p.oid::regprocedure || ' returns ' || coalesce(pg_get_function_result(p.oid), 'nothing') ||
	CASE WHEN has_function_privilege('pg_monitor', p.oid, 'EXECUTE') THEN '' ELSE ' (not for PUBLIC)' END
FROM pg_proc p WHERE p.pronamespace = 'pigeon'::regnamespace
ORDER BY p.oid::regprocedure::text COLLATE "C";

\echo == views
SELECT c.relname || ': ' || string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'pigeon'::regnamespace AND c.relkind = 'v'
GROUP BY c.relname ORDER BY c.relname COLLATE "C";

\echo == composite types
SELECT c.relname || ': ' || string_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attnum)
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'pigeon'::regnamespace AND c.relkind = 'c'
GROUP BY c.relname ORDER BY c.relname COLLATE "C";

\echo == settings
SELECT name || ' = ' || boot_val || coalesce(' ' || unit, '') || ', ' || context
FROM pg_settings WHERE name LIKE 'pigeon.%' ORDER BY name COLLATE "C";

-- From here on: each query lists what breaks the rule, so prints nothing.
\echo == objects without a comment
SELECT 'function ' || oid::regprocedure FROM pg_proc
WHERE pronamespace = 'pigeon'::regnamespace AND obj_description(oid, 'pg_proc') IS NULL;
SELECT 'relation ' || oid::regclass FROM pg_class
WHERE relnamespace = 'pigeon'::regnamespace AND relkind IN ('r', 'v', 'm', 'p') AND obj_description(oid, 'pg_class') IS NULL;
SELECT 'type ' || t.oid::regtype FROM pg_type t LEFT JOIN pg_class c ON c.oid = t.typrelid
WHERE t.typnamespace = 'pigeon'::regnamespace AND t.typelem = 0 AND coalesce(c.relkind, 'c') = 'c'
AND obj_description(t.oid, 'pg_type') IS NULL;

\echo == functions that depend on the search_path of the caller
SELECT p.oid::regprocedure FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
WHERE p.pronamespace = 'pigeon'::regnamespace
AND (p.prosecdef OR l.lanname = 'plpgsql' OR (l.lanname = 'sql' AND p.prosqlbody IS NULL))
AND NOT EXISTS (SELECT FROM unnest(p.proconfig) setting WHERE setting LIKE 'search_path=pg_catalog, pg_temp');

\echo == search_path that somebody else could write to
SELECT p.oid::regprocedure || ': ' || setting FROM pg_proc p, unnest(p.proconfig) setting
WHERE p.pronamespace = 'pigeon'::regnamespace
AND setting LIKE 'search_path%' AND setting <> 'search_path=pg_catalog, pg_temp';

\echo == functions without an explicit decision about PUBLIC
SELECT oid::regprocedure FROM pg_proc WHERE pronamespace = 'pigeon'::regnamespace AND proacl IS NULL
ORDER BY oid::regprocedure::text COLLATE "C";

\echo == tables and sequences on which PUBLIC has a right
SELECT c.oid::regclass FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'pigeon'::regnamespace AND c.relkind IN ('r', 'p', 'S', 'm') AND a.grantee = 0;

\echo == rights of PUBLIC on views other than SELECT
SELECT c.oid::regclass || ' ' || a.privilege_type FROM pg_class c, aclexplode(c.relacl) a
WHERE c.relnamespace = 'pigeon'::regnamespace AND c.relkind = 'v' AND a.grantee = 0 AND a.privilege_type <> 'SELECT';

\echo == views that are no security barrier
SELECT oid::regclass FROM pg_class
WHERE relnamespace = 'pigeon'::regnamespace AND relkind = 'v' AND NOT coalesce(reloptions @> '{security_barrier=true}', false);

\echo == tables and sequences that a dump would leave out
SELECT c.oid::regclass FROM pg_class c, pg_extension e
WHERE c.relnamespace = 'pigeon'::regnamespace AND c.relkind IN ('r', 'S') AND e.extname = 'pigeon'
AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.refobjid = e.oid AND d.deptype = 'e')
AND NOT c.oid = ANY (e.extconfig)
ORDER BY c.relname;

\echo == tables without a primary key
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'pigeon'::regnamespace AND c.relkind = 'r'
AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
ORDER BY c.relname;

\echo == objects of the schema that are not members of the extension
SELECT c.oid::regclass FROM pg_class c
WHERE c.relnamespace = 'pigeon'::regnamespace AND c.relkind IN ('r', 'v', 'S')
AND NOT EXISTS (SELECT FROM pg_depend d, pg_extension e WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
	AND d.refobjid = e.oid AND e.extname = 'pigeon' AND d.deptype = 'e');

\echo == the version is that of the control file and of the library
SELECT installed_version = default_version FROM pg_available_extensions WHERE name = 'pigeon';
