"""What the database itself refuses to do to the audit trail.

Rows are added at its end, one after the other.  None is changed.  None is deleted but from its beginning, up to an
anchor, which stays for good and says what was there.  (Without the insert's trigger, SQLite's INSERT OR REPLACE would
change a row and fire no other.)
"""

from typing import Final

from sqlalchemy import DDL, Table, event

_REFUSAL: Final = "the audit trail is append-only"

SQLITE: Final = (
    f"CREATE TRIGGER audit_change BEFORE UPDATE ON audit BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    (
        "CREATE TRIGGER audit_delete BEFORE DELETE ON audit "
        "WHEN old.seq > (SELECT coalesce(max(seq), 0) FROM audit_anchors) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    ),
    (
        "CREATE TRIGGER audit_insert BEFORE INSERT ON audit "
        "WHEN new.seq <= (SELECT max(seq) FROM audit) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    ),
)
SQLITE_ANCHORS: Final = (
    f"CREATE TRIGGER audit_anchors_change BEFORE UPDATE ON audit_anchors BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    f"CREATE TRIGGER audit_anchors_delete BEFORE DELETE ON audit_anchors BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END",
    (
        "CREATE TRIGGER audit_anchors_insert BEFORE INSERT ON audit_anchors "
        "WHEN new.seq <= (SELECT max(seq) FROM audit_anchors) "
        f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    ),
)
POSTGRESQL: Final = (
    (
        "CREATE FUNCTION audit_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN "
        "IF tg_op = 'DELETE' AND tg_table_name = 'audit' THEN "
        "IF old.seq <= (SELECT coalesce(max(seq), 0) FROM audit_anchors) THEN RETURN old; END IF; "
        "END IF; "
        f"RAISE EXCEPTION '{_REFUSAL}'; "
        "END $$"
    ),
    "CREATE TRIGGER audit_change BEFORE UPDATE OR DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_refuse()",
    "CREATE TRIGGER audit_truncate BEFORE TRUNCATE ON audit EXECUTE FUNCTION audit_refuse()",
)
POSTGRESQL_ANCHORS: Final = (
    (
        "CREATE TRIGGER audit_anchors_change BEFORE UPDATE OR DELETE ON audit_anchors "
        "FOR EACH ROW EXECUTE FUNCTION audit_refuse()"
    ),
    "CREATE TRIGGER audit_anchors_truncate BEFORE TRUNCATE ON audit_anchors EXECUTE FUNCTION audit_refuse()",
)


def protect(audit: Table, anchors: Table) -> None:
    """Have the triggers made with the tables, as the migration does."""
    for table, statements, dialect in (
        (audit, SQLITE, "sqlite"),
        (anchors, SQLITE_ANCHORS, "sqlite"),
        (audit, POSTGRESQL, "postgresql"),
        (anchors, POSTGRESQL_ANCHORS, "postgresql"),
    ):
        for statement in statements:
            event.listen(table, "after_create", _statement(statement).execute_if(dialect=dialect))


def _statement(text: str) -> DDL:
    return DDL(text)  # type: ignore[no-untyped-call]
