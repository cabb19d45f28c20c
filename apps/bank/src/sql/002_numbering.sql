-- Every posting has two entries.
INSERT INTO dujiang_numbering (relation, number_column, per_transfer) VALUES ('entries', 'entry', 2);
