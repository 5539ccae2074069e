//! [`SqlMembership`]: the nodes in a table of a PostgreSQL or MariaDB database.
//!
//! Each node renews its row, and reads the rows that have not expired. Times are those of the database.

use std::{sync::Arc, time::Duration};

use rpc_core::{BoxFuture, Code, Error, contained};
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use super::{Member, Membership, NewMember};
use crate::{
    identity::NodeId,
    sql::{Columns as _, Database, DatabaseError, Failure, Session, Statement},
};

/// Membership in a PostgreSQL or MariaDB database. Dropping it leaves the cluster after 10 s.
pub struct SqlMembership {
    wanted: watch::Sender<Option<Run>>,
    joined: watch::Receiver<Option<NodeId>>,
    members: watch::Receiver<Option<Arc<[Member]>>>,
    /// The driver, which ends with this.
    _driver: JoinSet<()>,
}

/// A run of this node that wants to be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Run {
    id: NodeId,
    node: NewMember,
}

/// Keeps the row of this node and the list of members up to date.
struct Driver {
    /// The URL contains a password, so this type is not `Debug`.
    url: String,
    /// `None` after a failure.
    database: Option<Database>,
    /// The run whose row may exist.
    own: Option<Run>,
    /// The time until which expired rows count after an outage, because their nodes may not have renewed them yet.
    settles_at: Option<Instant>,
    wanted: watch::Receiver<Option<Run>>,
    joined: watch::Sender<Option<NodeId>>,
    members: watch::Sender<Option<Arc<[Member]>>>,
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
        let (wanted, wanted_receiver) = watch::channel(None);
        let (joined_sender, joined) = watch::channel(None);
        let (members_sender, members) = watch::channel(None);
        let driver = Driver {
            url: url.to_owned(),
            database: None,
            own: None,
            settles_at: None,
            wanted: wanted_receiver,
            joined: joined_sender,
            members: members_sender,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(driver.run());
        Ok(Self { wanted, joined, members, _driver: tasks })
    }
}

impl Membership for SqlMembership {
    fn join(&self, node: NewMember) -> BoxFuture<'_, Result<NodeId, Error>> {
        Box::pin(async move {
            let id = NodeId::random();
            let is_new = self.wanted.send_if_modified(|wanted| {
                let is_new = wanted.is_none();
                if is_new {
                    *wanted = Some(Run { id, node });
                }
                is_new
            });
            if !is_new {
                let message = "this node has joined the cluster already";
                return Err(Error::not_executed(Code::FailedPrecondition, message));
            }
            let mut joined = self.joined.clone();
            if let Ok(Ok(_)) = timeout(JOIN_TIME, joined.wait_for(|joined| *joined == Some(id))).await {
                return Ok(id);
            }
            self.wanted.send_if_modified(|wanted| wanted.take_if(|run| run.id == id).is_some());
            let message = format!("the database did not register the node within {JOIN_TIME:?}");
            Err(Error::not_executed(Code::Unavailable, message))
        })
    }

    fn watch(&self) -> watch::Receiver<Option<Arc<[Member]>>> {
        self.members.clone()
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            self.wanted.send_replace(None);
            let mut joined = self.joined.clone();
            // After the time limit the row expires.
            let _ = timeout(LEAVE_TIME, joined.wait_for(Option::is_none)).await;
        })
    }
}

impl Driver {
    /// Renews the row of this node and reads the list, until dropped.
    async fn run(mut self) {
        loop {
            let wanted = self.wanted.borrow_and_update().clone();
            let pause = match self.beat(&wanted).await {
                Ok(()) => BEAT,
                Err(error) => {
                    contained(|| warn!(%error, "the database with the list of nodes cannot be used; retrying"));
                    // Connecting again also creates the tables if the database has lost them.
                    (self.database, self.settles_at) = (None, None);
                    if wanted.is_none() {
                        self.joined.send_replace(None);
                    }
                    RETRY_PAUSE
                }
            };
            // Both branches are cancel-safe.
            tokio::select! {
                () = sleep(pause) => {}
                changed = self.wanted.changed() => if changed.is_err() {
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
                self.settles_at = self.members.borrow().is_some().then(|| Instant::now() + LEASE);
                self.database.insert(connected).clone()
            }
        };
        if let Some(own) = self.own.take_if(|own| Some(&*own) != wanted.as_ref()) {
            let removed = database.write(own.id, |session, id| Box::pin(remove(session, *id))).await;
            if let Err(error) = removed {
                self.own = Some(own);
                return Err(error);
            }
        }
        if let Some(run) = wanted {
            self.own = Some(run.clone());
            database.write(run.clone(), |session, run| Box::pin(renew(session, run))).await?;
        }
        self.joined.send_replace(wanted.as_ref().map(|run| run.id));
        self.settles_at.take_if(|at| *at <= Instant::now());
        let grace = if self.settles_at.is_some() { FORGET_TIME } else { Duration::ZERO };
        let list = database.read(grace, |session, grace| Box::pin(list(session, *grace))).await?;
        self.members.send_if_modified(|current| {
            let is_changed = current.as_deref() != Some(&list[..]);
            *current = Some(list.into());
            is_changed
        });
        Ok(())
    }
}

async fn renew(session: &mut Session, run: &Run) -> Outcome<()> {
    let insert =
        Statement::new("INSERT INTO im_cluster (node, address, websocket, expires_at) VALUES (?, ?, ?, {now} + ?)");
    let insert = insert
        .number(run.id.0)
        .text(&run.node.address.to_string())
        .text(&run.node.websocket)
        .number(LEASE.as_millis() as u64)
        .or_update(session.engine(), "node", "expires_at");
    session.execute(insert).await?;
    let forgotten = Statement::new("DELETE FROM im_cluster WHERE expires_at < {now} - ?");
    session.execute(forgotten.number(FORGET_TIME.as_millis() as u64)).await?;
    Ok(())
}

async fn remove(session: &mut Session, id: NodeId) -> Outcome<()> {
    session.execute(Statement::new("DELETE FROM im_cluster WHERE node = ?").number(id.0)).await?;
    Ok(())
}

/// Returns the members whose rows have not been expired for longer than `grace`, in the order of their ids.
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
    members.sort_by_key(|member| member.id);
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
const JOIN_TIME: Duration = Duration::from_secs(10);
const LEAVE_TIME: Duration = Duration::from_secs(2);
