-- Which table holds the application's transfers and which their entries, for whoever has to write down what was lost
-- when a log was left behind. Plain tables in this schema whose rows are only added; columns that do not exist stay
-- null. At most one row for each part.
CREATE TABLE dujiang_transfers (
    part text PRIMARY KEY CHECK (part IN ('transfer', 'entry')),
    relation name NOT NULL,
    id_column name NOT NULL, -- of the transfer, in both
    account_column name NOT NULL,
    amount_column name NOT NULL, -- in minor units
    currency_column name NOT NULL,
    key_column name,
    kind_column name,
    to_column name,
    at_column name
);
