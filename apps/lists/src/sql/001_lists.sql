-- Lists of whole numbers. One row each, so that a list has one version at a time.
CREATE TABLE lists (
    owner text NOT NULL,
    list bigint NOT NULL,
    elements bigint[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (owner, list)
);
