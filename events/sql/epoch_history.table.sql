-- The epochs before the current one. `upto` is the last position that the log of today shares with that epoch: a reader
-- of that epoch that has not read further continues, any other starts over. Every later change of epoch lowers it.
create table events_epoch_history (
    epoch    uuid primary key,
    upto     bigint not null,
    ended_at timestamptz not null default clock_timestamp(),
    cause    text not null default 'place' check (cause in ('place', 'rewound'))
);
