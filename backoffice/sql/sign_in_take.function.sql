-- One attempt to sign in: takes one token from each budget, or none when one of them is empty (then o_wait says for how
-- many seconds). A budget is the time at which it would be full again (generic cell rate algorithm): p_bursts at once, one
-- more every p_intervals seconds. Keys are taken in order, so two attempts cannot wait for each other; full budgets are as
-- good as none and are cleared away here, so that the table stays as small as the traffic of the last hour.
create function sign_in_take(p_keys text[], p_intervals float[], p_bursts int[], out o_wait float)
language plpgsql as $$
declare
    v_now timestamptz := clock_timestamp();
    v_full timestamptz;
    v_budget record;
begin
    delete from sign_in_budgets where key = any(array(
        select key from sign_in_budgets where full_at < v_now and not key = any(p_keys)
         order by full_at limit 20 for update skip locked));
    o_wait := 0;
    for v_budget in
        select * from unnest(p_keys, p_intervals, p_bursts) w(key, every, burst) order by w.key
    loop
        insert into sign_in_budgets as b (key, full_at) values (v_budget.key, v_now)
            on conflict (key) do update set full_at = greatest(b.full_at, v_now) returning b.full_at into v_full;
        o_wait := greatest(o_wait, extract(epoch from v_full - v_now) - (v_budget.burst - 1) * v_budget.every);
    end loop;
    if o_wait <= 0 then
        o_wait := 0;
        update sign_in_budgets b set full_at = b.full_at + w.every * interval '1 second'
          from unnest(p_keys, p_intervals) w(key, every) where b.key = w.key;
    end if;
end $$;
