-- The last turn of each scheduled task that was sent, and who sent it. Turns are numbered floor(epoch / seconds) by the
-- clock of this database.
create table events_schedule (
    name    text primary key,
    seconds double precision not null,
    turn    bigint not null,
    sender  text not null,
    sent_at timestamptz not null default clock_timestamp()
);
