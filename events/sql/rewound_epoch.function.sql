-- Draw a new epoch because the files of the server were put back to an earlier state, which leaves no trace in them.
-- Events of the new history may be stored already, so nothing is known to be shared with earlier epochs. Does nothing
-- where the epoch is no longer `p_epoch`.
create function events_rewound_epoch(p_epoch uuid) returns uuid language plpgsql as $$
declare
    v_epoch uuid;
begin
    update events_epoch set epoch = gen_random_uuid(), started_at = clock_timestamp(), place = events_place()
     where epoch = p_epoch returning epoch into v_epoch;
    if not found then
        return (select epoch from events_epoch);
    end if;
    update events_epoch_history set upto = 0;
    insert into events_epoch_history (epoch, upto, cause) values (p_epoch, 0, 'rewound');
    update events_checkpoint set epoch = v_epoch
     where position <= coalesce(pg_sequence_last_value('events_position_seq'), 0);
    return v_epoch;
end $$;
