//! PostgreSQL's configuration, made from the replica's state. It lies outside the data directory, so that clones
//! and rewinds do not bring another replica's along.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use dujiang_types::DcId;
use dujiang_types::unit::SyncSet;

use super::error::{PostgresError, file};
use super::programs::Programs;
use super::state::{State, Upstream};
use super::{ROLE_AGENT, ROLE_REPLICATION, Reach, Settings};
use crate::files;

/// What `synchronous_standby_names` names when nobody may acknowledge. No data center can have that name.
const NOBODY: &str = "-nobody-";
/// Clients a database admits at most: the pools of a few instances.
pub(super) const CLIENTS_MAX: u32 = 92;
/// Connections kept for the agent on top of that.
const RESERVED: u32 = 8;
/// What a copy in progress calls itself upstream. No data center can have these names, so they count for nothing.
pub(super) const CLONING: &str = "-clone-";
/// The same of a rewound database that is not consistent yet.
pub(super) const REWINDING: &str = "-rewind-";

/// The configuration's files.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
}

impl Files {
    /// In the replica's folder.
    pub(super) fn new(replica: &Path) -> Self {
        Self { dir: replica.join("conf") }
    }

    /// The folder.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// `postgresql.conf`.
    pub(super) fn main(&self) -> PathBuf {
        self.dir.join("postgresql.conf")
    }

    /// `pg_hba.conf`.
    pub(super) fn hba(&self) -> PathBuf {
        self.dir.join("pg_hba.conf")
    }

    /// Password for the upstream; empty while there is none, so that a receiver that starts late cannot connect.
    pub(super) fn upstream_password(&self) -> PathBuf {
        self.dir.join("upstream.pgpass")
    }

    /// Password for the tools that copy or rewind.
    pub(super) fn tool_password(&self) -> PathBuf {
        self.dir.join("tool.pgpass")
    }

    /// Writes all of them. PostgreSQL takes them in when it starts or is told to reload.
    pub(super) fn write(&self, settings: &Settings, state: &State) -> Result<(), PostgresError> {
        self.write_as(settings, state, settings.dc.as_str())
    }

    /// The same, for a replica that goes by another name upstream.
    pub(super) fn write_as(
        &self,
        settings: &Settings,
        state: &State,
        name: &str,
    ) -> Result<(), PostgresError> {
        let programs = &settings.programs;
        programs.make_dir(&self.dir)?;
        let upstream = state.upstream.as_ref();
        // The password first: from here on a receiver that starts with an outdated address cannot connect.
        put(
            &self.upstream_password(),
            &upstream.map(|u| password_line(settings, u)).unwrap_or_default(),
            programs,
        )?;
        put(&self.main(), &main_text(settings, state, self, name), programs)?;
        put(&self.hba(), &hba_text(settings, state), programs)
    }

    /// Writes the password file of the tools, for one source.
    pub(super) fn write_tool_password(
        &self,
        settings: &Settings,
        from: &Upstream,
    ) -> Result<(), PostgresError> {
        settings.programs.make_dir(&self.dir)?;
        put(&self.tool_password(), &password_line(settings, from), &settings.programs)
    }
}

/// Readable by PostgreSQL only: all of them lie beside passwords.
fn put(path: &Path, text: &str, programs: &Programs) -> Result<(), PostgresError> {
    files::write_whole(path, text.as_bytes(), files::MODE_SECRET).map_err(file("write", path))?;
    programs.give(path)
}

fn password_line(settings: &Settings, upstream: &Upstream) -> String {
    let password = settings.secret.password(&settings.unit, ROLE_REPLICATION);
    format!("{}:{}:*:{ROLE_REPLICATION}:{password}\n", upstream.address.ip(), upstream.address.port())
}

/// Connection string for the replication role; password, key and certificates come from files, which are read for every
/// connection.
///
/// PostgreSQL's library looks for whom the certificate was made by the address alone, and gateway and agent have the
/// same. Binding the password's proof to the channel makes sure that it is a database, which knows the proof.
pub(super) fn conninfo(
    files: &Files,
    upstream: &Upstream,
    passfile: &Path,
    application: &str,
    database: Option<&str>,
) -> String {
    let quoted = |path: &Path| quote_conninfo(&path.display().to_string());
    let mut text = format!(
        "host={} port={} user={ROLE_REPLICATION} passfile={} application_name={application} connect_timeout=3 \
         keepalives_idle=2 keepalives_interval=1 keepalives_count=3 tcp_user_timeout=3000 sslmode=verify-full \
         sslcert={identity} sslkey={identity} sslrootcert={} ssl_min_protocol_version=TLSv1.3 \
         channel_binding=require",
        upstream.address.ip(),
        upstream.address.port(),
        quoted(passfile),
        quoted(&files.authority()),
        identity = quoted(&files.identity()),
    );
    if let Some(database) = database {
        let _ = write!(text, " dbname={database}");
    }
    text
}

/// The value of `synchronous_standby_names` for a sync set. A set with fewer members than needed names nobody:
/// commits wait.
pub(super) fn sync_names(set: Option<&SyncSet>) -> String {
    match set {
        Some(set) if set.need == 0 => String::new(),
        Some(set) if set.members.len() >= usize::from(set.need) => {
            let names: Vec<String> = set.members.iter().map(|dc| format!("\"{dc}\"")).collect();
            format!("ANY {} ({})", set.need, names.join(", "))
        }
        _ => format!("ANY 1 (\"{NOBODY}\")"),
    }
}

/// Name of the replication slot that keeps log for a data center's replica.
pub(super) fn slot(dc: &DcId) -> String {
    dc.as_str().replace('-', "_")
}

fn main_text(settings: &Settings, state: &State, files: &Files, name: &str) -> String {
    let tuning = &settings.tuning;
    let upstream = state.upstream.as_ref();
    let conninfo =
        upstream.map(|u| conninfo(files, u, &files.upstream_password(), name, None)).unwrap_or_default();
    let slot = upstream.map(|_| slot(&settings.dc)).unwrap_or_default();
    // The data directory is where PostgreSQL works.
    let (listen, sockets, what) = match settings.reach {
        Reach::Network => (settings.address.ip().to_string(), "", ""),
        Reach::Socket => (String::new(), ".", " trial"),
    };
    let values: Vec<(&str, String)> = vec![
        ("listen_addresses", listen),
        ("port", settings.address.port().to_string()),
        ("unix_socket_directories", sockets.to_owned()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("hba_file", files.hba().display().to_string()),
        ("cluster_name", format!("{} {}{what}", settings.unit, settings.dc)),
        ("max_connections", (CLIENTS_MAX + RESERVED).to_string()),
        ("superuser_reserved_connections", RESERVED.to_string()),
        // A connection that is being authenticated when admission closes must not linger.
        ("authentication_timeout", "5s".to_owned()),
        ("password_encryption", "scram-sha-256".to_owned()),
        ("ssl", "on".to_owned()),
        ("ssl_min_protocol_version", "TLSv1.3".to_owned()),
        ("ssl_cert_file", files.identity().display().to_string()),
        ("ssl_key_file", files.identity().display().to_string()),
        ("ssl_ca_file", files.authority().display().to_string()),
        ("tcp_keepalives_idle", "5".to_owned()),
        ("tcp_keepalives_interval", "1".to_owned()),
        ("tcp_keepalives_count", "3".to_owned()),
        ("tcp_user_timeout", "5s".to_owned()),
        // A client that dies inside a transaction must not hold its locks.
        ("idle_in_transaction_session_timeout", "10s".to_owned()),
        ("shared_buffers", format!("{}MB", tuning.shared_buffers_mb)),
        ("fsync", "on".to_owned()),
        ("full_page_writes", "on".to_owned()),
        ("wal_level", "replica".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        ("synchronous_standby_names", sync_names(state.set.as_ref())),
        ("max_wal_size", "512MB".to_owned()),
        ("checkpoint_timeout", "2min".to_owned()),
        ("checkpoint_completion_target", "0.9".to_owned()),
        ("max_wal_senders", "10".to_owned()),
        ("max_replication_slots", "10".to_owned()),
        ("wal_keep_size", format!("{}MB", tuning.wal_keep_mb)),
        // A replica that is gone must not fill its primary's disk; it is copied anew instead.
        ("max_slot_wal_keep_size", format!("{}MB", tuning.slot_keep_mb)),
        ("wal_sender_timeout", "3s".to_owned()),
        ("wal_receiver_timeout", "3s".to_owned()),
        ("wal_receiver_status_interval", "1s".to_owned()),
        ("wal_retrieve_retry_interval", "100ms".to_owned()),
        ("hot_standby", "on".to_owned()),
        (
            "recovery_target_timeline",
            state.target.map_or("latest".to_owned(), |timeline| timeline.to_string()),
        ),
        ("primary_conninfo", conninfo),
        ("primary_slot_name", slot),
        // A crash ends the epoch; it is for the agent to say so and for an election to settle it.
        ("restart_after_crash", "off".to_owned()),
        ("logging_collector", "off".to_owned()),
        ("log_destination", "stderr".to_owned()),
        ("log_line_prefix", "%m [%p] %q%a %u@%d ".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("lc_messages", "C".to_owned()),
    ];
    let mut text = "# Written by the agent; changes are overwritten.\n".to_owned();
    for (name, value) in values {
        let _ = writeln!(text, "{name} = '{}'", value.replace('\'', "''"));
    }
    text
}

fn hba_text(settings: &Settings, state: &State) -> String {
    // A password, and a certificate of the platform's authority that carries the role as its common name.
    const PROOF: &str = "scram-sha-256 clientcert=verify-full";
    const HEADING: &str = "# Written by the agent; changes are overwritten.\n";
    if settings.reach == Reach::Socket {
        return format!("{HEADING}local all {ROLE_AGENT} scram-sha-256\n");
    }
    let app = &settings.application;
    let mut text = format!(
        "{HEADING}hostssl all {ROLE_AGENT} samehost {PROOF}\n\
         hostssl postgres {ROLE_REPLICATION} all {PROOF}\n\
         hostssl replication {ROLE_REPLICATION} all {PROOF}\n"
    );
    if state.open {
        let _ = writeln!(text, "hostssl \"{app}\" \"{app}\" all {PROOF}");
    }
    text
}

fn quote_conninfo(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "\\'"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn set(need: u8, members: &[&str]) -> SyncSet {
        let members: BTreeSet<DcId> = members.iter().map(|dc| DcId::new(*dc).unwrap()).collect();
        SyncSet { members, need }
    }

    #[test]
    fn a_set_that_cannot_acknowledge_names_nobody() {
        assert_eq!(sync_names(Some(&set(1, &["a-1", "b"]))), "ANY 1 (\"a-1\", \"b\")");
        assert_eq!(sync_names(Some(&set(1, &[]))), "ANY 1 (\"-nobody-\")");
        assert_eq!(sync_names(Some(&set(2, &["a"]))), "ANY 1 (\"-nobody-\")");
        assert_eq!(sync_names(None), "ANY 1 (\"-nobody-\")");
        assert_eq!(sync_names(Some(&set(0, &["a"]))), "");
        for name in [NOBODY, CLONING, REWINDING] {
            assert!(DcId::new(name).is_err());
        }
    }

    #[test]
    fn paths_with_quotes_survive_a_connection_string() {
        assert_eq!(quote_conninfo(r"/a 'b\c"), r"'/a \'b\\c'");
    }
}
