INSERT INTO dujiang_transfers (part, relation, id_column, account_column, amount_column, currency_column,
    key_column, kind_column, to_column, at_column)
VALUES
    ('transfer', 'postings', 'posting', 'account', 'amount_minor', 'currency',
        'idempotency_key', 'kind', 'to_account', 'created_at'),
    ('entry', 'entries', 'posting', 'account', 'amount_minor', 'currency', NULL, NULL, NULL, NULL);
