-- Text without accents, in upper case: in this order, since unaccent(upper('Straße')) is 'STRAssE'.
-- unaccent is only STABLE because its dictionary could be changed; ours is named, and a changed rules file needs a
-- REINDEX as a changed collation does. The body is parsed here, once: no search_path can make it mean anything else.
-- PARALLEL RESTRICTED keeps searches in one process: they stop early or read thousands of rows, and starting workers
-- costs more than they save (a common word among 200,000 users: 48 ms with two workers, 17 ms without).
create function search_fold(value text) returns text language sql immutable strict parallel restricted
return upper(unaccent('unaccent'::regdictionary, normalize(value, NFC)));
