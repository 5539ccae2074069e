//! The databases execute every statement with an index.

use std::collections::BTreeMap;

use tests::{
    engines::{mariadb::MariaDbServer, postgres::PostgresServer},
    im_contract,
};

use super::{connect, directories, stores};

#[tokio::test(flavor = "multi_thread")]
async fn postgres_plans_use_indexes() {
    // The server logs the plan of each statement that it executes.
    let settings = ["session_preload_libraries=auto_explain", "auto_explain.log_min_duration=0", "fsync=off"];
    let Some(server) = PostgresServer::start_with(&settings).await else { return };
    let nodes = connect(&server.url()).await;
    for (table, columns) in ROWS {
        server.query(&format!("INSERT INTO {table} SELECT {columns} FROM generate_series(1, {COUNT}) AS rows(n)"));
    }
    server.query("ANALYZE");
    im_contract::store::check(&stores(&nodes)).await;
    im_contract::directory::check(&directories(&nodes)).await;
    let log = server.log();
    let plans: Vec<&str> = log.split("plan:").skip(1).collect();
    for (table, _) in ROWS {
        assert!(plans.iter().any(|plan| plan.contains(&format!(" on {table}"))), "no plan reads {table}");
        let scan = format!("Seq Scan on {table}");
        let scans: Vec<_> = plans.iter().filter(|plan| plan.contains(&scan)).collect();
        assert!(scans.is_empty(), "{} plans scan {table}: {}", scans.len(), scans[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn mariadb_plans_use_indexes() {
    let options = ["--log-output=TABLE", "--innodb-flush-log-at-trx-commit=0"];
    let Some(server) = MariaDbServer::start_with(&options).await else { return };
    let nodes = connect(&server.url()).await;
    for (table, columns) in ROWS {
        let columns = columns.replace("n::text", "CAST(n AS CHAR)");
        server.query(&format!("INSERT INTO {table} SELECT {columns} FROM (SELECT seq AS n FROM seq_1_to_{COUNT}) s"));
    }
    server.query("ANALYZE TABLE im_messages, im_members, im_conversations, im_sessions");
    server.query("SET GLOBAL general_log = ON");
    im_contract::store::check(&stores(&nodes)).await;
    im_contract::directory::check(&directories(&nodes)).await;
    server.query("SET GLOBAL general_log = OFF");
    let executed = server.query(
        "SELECT REPLACE(argument, '\n', ' ') FROM mysql.general_log WHERE command_type = 'Execute' \
         AND argument NOT LIKE 'INSERT%' AND LENGTH(argument) < 10000",
    );
    // One statement of each form.
    let statements: BTreeMap<String, &str> = executed.lines().map(|text| (form(text), text)).collect();
    assert!(statements.len() > 20, "{statements:?}");
    let statements: Vec<&str> = statements.into_values().collect();
    for statements in statements.chunks(10) {
        let explain = statements.iter().map(|statement| format!("SELECT 'explain'; EXPLAIN {statement};"));
        let plans = server.query(&explain.collect::<String>());
        let plans: Vec<&str> = plans.split("explain\n").skip(1).collect();
        assert_eq!(plans.len(), statements.len());
        for (statement, plan) in statements.iter().zip(plans) {
            check_plan(statement, plan);
        }
    }
}

/// Checks the rows of EXPLAIN, which begin with the number of the SELECT, its type, the table, and the type of access.
fn check_plan(statement: &str, plan: &str) {
    for line in plan.lines() {
        let columns: Vec<&str> = line.split('\t').collect();
        let (table, access) = (columns[2], columns[3]);
        // Derived tables, which have a limit, and the table of nodes, which has few rows.
        let is_small = ["<", "counted", "old", "im_nodes"].iter().any(|prefix| table.starts_with(prefix));
        assert!(is_small || !["ALL", "index"].contains(&access), "{statement}\n{plan}");
    }
}

/// Returns a statement without its values.
fn form(statement: &str) -> String {
    let words = statement.split([' ', ',', '(', ')']).filter(|word| !word.is_empty());
    words.filter(|word| !word.starts_with(['\'', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '-'])).collect()
}

/// The tables, and the values of their columns in the row `n`.
const ROWS: [(&str, &str); 6] = [
    ("im_conversations", "n::text, n, 1, 0, 'team', 1, 10, n, 1, 1, n"),
    ("im_members", "n::text, n::text, 2, 0, 0"),
    ("im_messages", "n::text, 1, n::text, 'phone', '1', 0, 0, n, 0, 'hello'"),
    ("im_sessions", "n::text, 'phone', 'ios', n, n"),
    ("im_logins", "n::text"),
    ("im_replaced", "n, n"),
];
/// The number of rows of each table.
const COUNT: usize = 20_000;
