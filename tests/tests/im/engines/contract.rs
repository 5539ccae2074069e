//! Both databases pass the tests of every engine.

use rpc_im::sql::Database;
use tests::{
    engines::{mariadb::MariaDbServer, postgres::PostgresServer},
    im_contract,
};

use super::{connect, directories, stores};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_passes_the_store_contract() {
    let Some(server) = PostgresServer::start().await else { return };
    im_contract::store::check(&stores(&connect(&server.url()).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_passes_the_directory_contract() {
    let Some(server) = PostgresServer::start().await else { return };
    im_contract::directory::check(&directories(&connect(&server.url()).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_passes_the_store_contract() {
    let Some(server) = MariaDbServer::start().await else { return };
    im_contract::store::check(&stores(&connect(&server.url()).await)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_passes_the_directory_contract() {
    let Some(server) = MariaDbServer::start().await else { return };
    im_contract::directory::check(&directories(&connect(&server.url()).await)).await;
}

#[tokio::test]
async fn errors_and_debug_do_not_contain_the_password() {
    for url in [
        "postgres://im:secret@127.0.0.1:1/im",
        "mysql://im:secret@127.0.0.1:1/im",
        "redis://im:secret@127.0.0.1:1",
        "postgres://im:secret@127.0.0.1:port/im",
        "im:secret",
    ] {
        let error = Database::connect(url).await.expect_err("no server listens");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }
    let Some(server) = PostgresServer::start().await else { return };
    let database =
        Database::connect(&server.url().replace("im@", "im:secret@")).await.expect("the server trusts the user");
    assert!(!format!("{database:?}").contains("secret"), "{database:?}");
}
