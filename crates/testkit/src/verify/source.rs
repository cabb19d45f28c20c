//! Finding the database of each unit that takes writes, and waiting until nothing is under way between units.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use dujiang_database::Tls;
use dujiang_identity::Identity;
use dujiang_types::{DcId, SlotRange, UnitId};
use tokio::time::Instant;
use tokio_postgres::{Client, Config};

use crate::losses;
use crate::platform::{BANK, Platform, ROLE_OPERATOR};
use crate::verify::{Findings, Rule, VerifyError};

/// All databases are near; one that does not answer within this is treated as gone.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to look again while waiting.
const POLL: Duration = Duration::from_millis(200);
/// How often to tell that we are still waiting, in looks.
const SAY_EVERY: u32 = 10;

/// A unit and where its database may be.
#[derive(Debug, Clone)]
pub struct UnitSource {
    /// The unit.
    pub unit: UnitId,
    /// Slots it owns.
    pub slots: Vec<SlotRange>,
    /// Its replicas.
    pub servers: Vec<Server>,
    /// Ids and keys of transfers that may be missing; see [`UnitSource::accept_losses`].
    pub lost: BTreeSet<String>,
}

/// A database server with all that is needed to connect.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its data center.
    pub dc: DcId,
    /// Address, database, role and password.
    pub config: Config,
    /// File of the identity to connect with, which is of the data center.
    pub identity: PathBuf,
}

impl UnitSource {
    /// All units of a platform that keep books.
    pub fn of_platform(platform: &Platform) -> Vec<Self> {
        let source = |(unit, places): (&UnitId, &crate::platform::UnitPlaces)| Self {
            unit: unit.clone(),
            slots: places.slots.clone(),
            lost: BTreeSet::new(),
            servers: places
                .replicas
                .iter()
                .map(|(dc, place)| {
                    let mut config = Config::new();
                    config
                        .host(&place.host)
                        .port(place.port)
                        .dbname(&place.database)
                        .user(ROLE_OPERATOR)
                        .password(platform.password(unit, ROLE_OPERATOR))
                        .application_name("dujiang-verify")
                        .connect_timeout(CONNECT_TIMEOUT);
                    Server { dc: dc.clone(), config, identity: platform.agent_identity(dc) }
                })
                .collect(),
        };
        platform.units_of(BANK).map(source).collect()
    }

    /// Lets be missing what a manifest says was lost. Only after a promotion without proof, and never by itself: a
    /// manifest also names what a failover has lost that should have lost nothing.
    pub fn accept_losses(&mut self, platform: &Platform) -> io::Result<()> {
        self.lost = losses::keys(&losses::manifests(platform.data(), Some(&self.unit))?);
        Ok(())
    }
}

/// Tables of the books. Once one of them is there all have to be.
const TABLES: [&str; 5] = ["customers", "accounts", "postings", "entries", "dujiang_outbox"];

/// A connection to the database of a unit that takes writes.
pub(crate) struct Primary {
    pub(crate) unit: UnitId,
    pub(crate) slots: Vec<SlotRange>,
    pub(crate) dc: DcId,
    pub(crate) epoch: u64,
    pub(crate) client: Client,
}

impl Primary {
    pub(crate) fn failed(&self, what: &'static str, source: tokio_postgres::Error) -> VerifyError {
        VerifyError::Read { unit: self.unit.clone(), what, source }
    }

    /// From here on every query sees the same state.
    pub(crate) async fn begin_snapshot(&self) -> Result<(), VerifyError> {
        // The snapshot is taken by the first query, not by BEGIN.
        self.client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT count(*) FROM pg_class")
            .await
            .map_err(|e| self.failed("a snapshot", e))
    }

    /// False as long as the application has made none of its tables here, as it does when it first uses a unit.
    pub(crate) async fn has_books(&self) -> Result<bool, VerifyError> {
        let query =
            "SELECT EXISTS (SELECT FROM unnest($1::text[]) AS name WHERE to_regclass(name) IS NOT NULL)";
        let row = self.client.query_one(query, &[&TABLES.as_slice()]).await;
        row.and_then(|row| row.try_get(0)).map_err(|e| self.failed("the list of tables", e))
    }

    async fn pending(&self) -> Result<i64, VerifyError> {
        if !self.has_books().await? {
            return Ok(0);
        }
        let query = "SELECT count(*) FROM dujiang_outbox WHERE state = 'pending'";
        let row = self.client.query_one(query, &[]).await;
        row.and_then(|row| row.try_get(0)).map_err(|e| self.failed("dujiang_outbox", e))
    }
}

/// Connections to all primaries, once no message is under way between units or the time is up. A server that
/// takes writes beside the primary is a violation.
pub(crate) async fn settled_primaries(
    sources: &[UnitSource],
    patience: Duration,
    findings: &mut Findings,
    say: &mut impl FnMut(&str),
) -> Result<Vec<Primary>, VerifyError> {
    let deadline = Instant::now() + patience;
    for look in 0_u32.. {
        let last = Instant::now() >= deadline;
        // Found anew every time: a failover may be under way while we wait.
        let waiting = match primaries(sources).await {
            Ok((found, doubled)) => {
                let mut pending = 0;
                for primary in &found {
                    pending += primary.pending().await?;
                }
                if pending == 0 || last {
                    for (unit, dc) in doubled {
                        let what = format!("the database in {dc} takes writes beside the primary");
                        findings.add(Rule::TwoPrimaries, Some(&unit), what);
                    }
                    return Ok(found);
                }
                format!("{pending} messages between units")
            }
            Err(error) if last => return Err(error),
            Err(error) => error.to_string(),
        };
        if look % SAY_EVERY == 0 {
            say(&format!("waiting for {waiting}"));
        }
        tokio::time::sleep(POLL).await;
    }
    unreachable!("the loop ends at its deadline")
}

pub(crate) type Doubled = Vec<(UnitId, DcId)>;

pub(crate) async fn primaries(sources: &[UnitSource]) -> Result<(Vec<Primary>, Doubled), VerifyError> {
    let mut found = Vec::with_capacity(sources.len());
    let mut doubled = Vec::new();
    for source in sources {
        let mut best: Option<Primary> = None;
        let mut why = Vec::new();
        for server in &source.servers {
            match connect(server).await {
                Ok(Some((client, epoch))) => {
                    let (unit, slots, dc) = (source.unit.clone(), source.slots.clone(), server.dc.clone());
                    let this = Primary { unit, slots, dc, epoch, client };
                    let (kept, other) = match best.take() {
                        Some(best) if best.epoch > this.epoch => (best, Some(this)),
                        best => (this, best),
                    };
                    doubled.extend(other.map(|other| (other.unit, other.dc)));
                    best = Some(kept);
                }
                Ok(None) => why.push(format!("{} is a standby", server.dc)),
                Err(error) => why.push(format!("{} says {error}", server.dc)),
            }
        }
        let missing = || VerifyError::NoPrimary { unit: source.unit.clone(), why: why.join(", ") };
        found.push(best.ok_or_else(missing)?);
    }
    Ok((found, doubled))
}

/// Why a server cannot be asked.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error(transparent)]
    Identity(#[from] dujiang_identity::Error),
    #[error(transparent)]
    Database(#[from] tokio_postgres::Error),
}

/// A connection and the epoch in the fence; `None` if the server is a standby.
async fn connect(server: &Server) -> Result<Option<(Client, u64)>, ConnectError> {
    let identity = Identity::from_file(&server.identity)?;
    let tls = Tls::new(&identity, identity.name().dc().unwrap_or(&server.dc))?;
    let (client, connection) = dujiang_database::connect(&server.config, &tls).await?;
    // Ends when the client is dropped; what goes wrong there, the client's next query tells.
    tokio::spawn(connection);
    let standby: bool = client.query_one("SELECT pg_is_in_recovery()", &[]).await?.try_get(0)?;
    if standby {
        return Ok(None);
    }
    let epoch: i64 = client.query_one("SELECT epoch FROM dujiang.fence", &[]).await?.try_get(0)?;
    Ok(Some((client, u64::try_from(epoch).unwrap_or_default())))
}
