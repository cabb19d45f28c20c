-- The schema the platform keeps in every unit's database. Run once by the agent, as superuser in the
-- application's database, when the unit is formed; afterwards the agent only writes the fence and the probe.
-- Granted to everybody: the database has no other roles than the platform's and the application's.

CREATE SCHEMA dujiang;
GRANT USAGE ON SCHEMA dujiang TO PUBLIC;

-- Under which epoch this database was last promoted. One row; the agent inserts it when the unit is formed.
CREATE TABLE dujiang.fence (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    unit text NOT NULL,
    epoch bigint NOT NULL
);
GRANT SELECT ON dujiang.fence TO PUBLIC;

-- What the agent's real-write probe writes: a gray disk answers reads and health checks for minutes.
CREATE TABLE dujiang.probe (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    written_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO dujiang.probe DEFAULT VALUES;

-- The first statement of every transaction of an application.
-- DJ001: the request was meant for another epoch, or this database is not a primary.
-- DJ002: the session would acknowledge commits no other replica has.
CREATE FUNCTION dujiang.enter(wanted bigint) RETURNS void
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    current_epoch bigint;
BEGIN
    IF pg_is_in_recovery() THEN
        RAISE EXCEPTION 'this database is a standby' USING ERRCODE = 'DJ001';
    END IF;
    SELECT epoch INTO current_epoch FROM dujiang.fence;
    IF current_epoch IS DISTINCT FROM wanted THEN
        RAISE EXCEPTION 'epoch % was asked for, the fence is at %', wanted, current_epoch USING ERRCODE = 'DJ001';
    END IF;
    IF current_setting('synchronous_commit') <> 'on' THEN
        RAISE EXCEPTION 'synchronous_commit must be on' USING ERRCODE = 'DJ002';
    END IF;
END
$$;
