//! [`SqlMembership`]: the nodes in a table of a PostgreSQL or MariaDB database.
//!
//! Each node renews its row, and reads the rows that have not expired. Times are those of the database.

use std::{sync::Arc, time::Duration};

use rpc_core::{BoxFuture, Code, Error, contained};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{
    Member, Membership, NewMember,
    handle::{DriverEnds, Handle, JOIN_TIME, Joined, Run},
};
use crate::{
    identity::NodeId,
    sql::{Columns as _, Database, DatabaseError, Failure, Session, Statement},
};

/// Membership in a PostgreSQL or MariaDB database. Dropping it leaves the cluster after 10 s.
pub struct SqlMembership(Handle);

/// Keeps the row of this node, whose id is the token of its run, and the list of members up to date.
struct Driver {
    /// The URL contains a password, so this type is not `Debug`.
    url: String,
    /// `None` after a failure.
    database: Option<Database>,
    /// The run whose row may exist.
    own: Option<Run>,
    /// The time until which expired rows count after an outage, because their nodes may not have renewed them yet.
    settles_at: Option<Instant>,
    ends: DriverEnds,
}

type Outcome<T> = Result<T, Failure<DatabaseError>>;

impl SqlMembership {
    /// Connects in the background to a database by its URL, and creates its tables.
    ///
    /// Must be called on a Tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Code::InvalidArgument`] if the URL is invalid.
    pub fn connect(url: &str) -> Result<Self, Error> {
        if !Database::is_url(url) {
            let message = "invalid URL of the database for the list of nodes, expected postgres://… or mysql://…";
            return Err(Error::not_executed(Code::InvalidArgument, message));
        }
        let url = url.to_owned();
        Ok(Self(Handle::start(|ends| Driver { url, database: None, own: None, settles_at: None, ends }.run())))
    }
}

impl Membership for SqlMembership {
    fn join(&self, node: NewMember) -> BoxFuture<'_, Result<NodeId, Error>> {
        self.0.join(node, || format!("the database did not register the node within {JOIN_TIME:?}"))
    }

    fn watch(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.0.watch()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        self.0.leave()
    }
}

impl Driver {
    /// Renews the row of this node and reads the list, until dropped.
    async fn run(mut self) {
        loop {
            let wanted = self.ends.wanted.borrow_and_update().clone();
            let pause = match self.beat(&wanted).await {
                Ok(()) => BEAT,
                Err(error) => {
                    contained(|| warn!(%error, "the database with the list of nodes cannot be used; retrying"));
                    // Connecting again also creates the tables if the database has lost them.
                    (self.database, self.settles_at) = (None, None);
                    if wanted.is_none() {
                        self.ends.joined.send_replace(None);
                    }
                    RETRY_PAUSE
                }
            };
            // Both branches are cancel-safe.
            tokio::select! {
                () = sleep(pause) => {}
                changed = self.ends.wanted.changed() => if changed.is_err() {
                    return;
                }
            }
        }
    }

    async fn beat(&mut self, wanted: &Option<Run>) -> Result<(), DatabaseError> {
        let database = match &self.database {
            Some(database) => database.clone(),
            None => {
                let connected = timeout(CONNECT_TIME, Database::connect(&self.url)).await;
                let connected = connected
                    .unwrap_or_else(|_| Err(DatabaseError(format!("no connection within {CONNECT_TIME:?}"))))?;
                contained(|| info!("connected to the database with the list of nodes"));
                // Before the first list there was no outage in which rows may have expired.
                self.settles_at = self.ends.has_published().then(|| Instant::now() + LEASE);
                self.database.insert(connected).clone()
            }
        };
        if let Some(own) = self.own.take_if(|own| Some(&*own) != wanted.as_ref()) {
            let removed = database.write(own.token, |session, node| Box::pin(remove(session, *node))).await;
            if let Err(error) = removed {
                self.own = Some(own);
                return Err(error);
            }
        }
        if let Some(run) = wanted {
            self.own = Some(run.clone());
            database.write(run.clone(), |session, run| Box::pin(renew(session, run))).await?;
        }
        self.ends.joined.send_replace(wanted.as_ref().map(|run| Joined { token: run.token, id: NodeId(run.token) }));
        self.settles_at.take_if(|at| *at <= Instant::now());
        let grace = if self.settles_at.is_some() { FORGET_TIME } else { Duration::ZERO };
        let list = database.read(grace, |session, grace| Box::pin(list(session, *grace))).await?;
        self.ends.publish(list);
        Ok(())
    }
}

async fn renew(session: &mut Session, run: &Run) -> Outcome<()> {
    let insert =
        Statement::new("INSERT INTO im_cluster (node, address, websocket, expires_at) VALUES (?, ?, ?, {now} + ?)");
    let insert = insert
        .number(run.token)
        .text(&run.node.address.to_string())
        .text(&run.node.websocket)
        .number(LEASE.as_millis() as u64)
        .or_update(session.engine(), "node", "expires_at");
    session.execute(insert).await?;
    let forgotten = Statement::new("DELETE FROM im_cluster WHERE expires_at < {now} - ?");
    session.execute(forgotten.number(FORGET_TIME.as_millis() as u64)).await?;
    Ok(())
}

async fn remove(session: &mut Session, node: u64) -> Outcome<()> {
    session.execute(Statement::new("DELETE FROM im_cluster WHERE node = ?").number(node)).await?;
    Ok(())
}

/// Returns the members whose rows have not been expired for longer than `grace`.
async fn list(session: &mut Session, grace: Duration) -> Outcome<Vec<Member>> {
    let select = Statement::new("SELECT node, address, websocket FROM im_cluster WHERE expires_at > {now} - ?");
    let mut members = Vec::new();
    for row in session.rows(select.number(grace.as_millis() as u64)).await? {
        let (id, address, websocket) = (NodeId(row.number(0)?), row.text(1)?, row.text(2)?);
        // A row that this version cannot read is none of its members.
        if let Ok(address) = address.parse() {
            members.push(Member { id, address, websocket });
        }
    }
    Ok(members)
}

/// The interval at which a node renews its row and reads the list.
const BEAT: Duration = Duration::from_secs(2);
/// The time after which the row of a node expires that does not renew it.
const LEASE: Duration = Duration::from_secs(10);
/// The time after which an expired row is removed.
const FORGET_TIME: Duration = Duration::from_secs(600);
/// The pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(500);
/// The time limit to connect and to create the tables.
const CONNECT_TIME: Duration = Duration::from_secs(60);
