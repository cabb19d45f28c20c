-- Where the application numbers its transfers, for whoever wants to know how many of them a replica has not got yet. At
-- most one row: a plain table in this schema, and a bigint column of it that rises with every transfer by
-- per_transfer.
CREATE TABLE dujiang_numbering (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    relation name NOT NULL,
    number_column name NOT NULL,
    per_transfer bigint NOT NULL CHECK (per_transfer > 0)
);
