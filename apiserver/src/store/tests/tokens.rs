//! What is written about a token is written with it.

use super::*;

#[tokio::test]
async fn a_token_that_cannot_be_noted_is_not_made_in_postgres() {
    a_token_that_cannot_be_noted_is_not_made(Bed::postgres()).await;
}

#[tokio::test]
async fn a_token_that_cannot_be_noted_is_not_made_in_sqlite() {
    a_token_that_cannot_be_noted_is_not_made(Bed::sqlite()).await;
}

async fn a_token_that_cannot_be_noted_is_not_made(bed: Bed) {
    let line = || AuditLine {
        time: start(),
        user: "ann".into(),
        namespace: String::new(),
        resource: "tokens".into(),
        verb: "create".into(),
        record: "{}".into(),
    };
    let new = || NewToken { user: "ann".into(), ..NewToken::default() };
    let store = bed.open().await;
    bed.execute("ALTER TABLE store_audit RENAME TO aside").await;
    assert!(store.tokens().issue("t_", new(), line()).await.is_err());
    assert!(store.tokens().list().is_empty());
    bed.execute("ALTER TABLE aside RENAME TO store_audit").await;
    let (_, token) = store.tokens().issue("t_", new(), line()).await.unwrap();
    store.close().await.unwrap();
    drop(store);
    let store = bed.open().await;
    assert_eq!(store.tokens().list(), [token], "the other one is not in the database either");
    assert_eq!(store.audit(AuditQuery { limit: 10, ..AuditQuery::default() }).await.unwrap().len(), 1);
}
