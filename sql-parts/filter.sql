-- ---------- filter policies ----------

CREATE FUNCTION pigeon.filter_matches(filter_policy jsonb, filter_scope text = 'attributes',
                                      attributes jsonb = NULL, body text = NULL)
RETURNS boolean
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'pgn_filter_matches';

COMMENT ON FUNCTION pigeon.filter_matches(jsonb, text, jsonb, text) IS
'does a message with these attributes and this body pass the filter policy?';

CREATE FUNCTION pigeon.filter_result(filter_policy jsonb, filter_scope text = 'attributes',
                                     attributes jsonb = NULL, body text = NULL)
RETURNS text
LANGUAGE C STABLE PARALLEL SAFE
AS 'MODULE_PATHNAME', 'pgn_filter_result';

COMMENT ON FUNCTION pigeon.filter_result(jsonb, text, jsonb, text) IS
'what a filter policy makes of a message: matched, or why it is filtered out';
