-- The form of a text that searches compare. Plain ASCII needs only upper case, at a tenth of the price; not STRICT, so
-- that PostgreSQL inlines it.
create function search_text(value text) returns text language sql immutable parallel restricted
return case when octet_length(value) = char_length(value) then upper(value) else search_fold(value) end;
