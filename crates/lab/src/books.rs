//! The checker's way to the databases. Their superuser is admitted from the data center's own host only, so in each
//! data center a relay takes the checker's connections there, as an operator's tunnel would.

use dujiang_testkit::cluster::{Cluster, ClusterError, DATA_CENTERS};
use dujiang_testkit::journal::Journal;
use dujiang_testkit::verify::{self, Options, Report, UnitSource};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::nets::Lab;

/// First port of the databases, and how many there are in a data center.
const FIRST: u16 = 5_401;
const COUNT: u16 = 3;
/// Between a database's port and its relay's.
const APART: u16 = 1_000;

/// Starts the relays; they last as long as the process.
pub fn open(lab: &Lab, cluster: &Cluster) {
    for (number, name) in (0..).zip(DATA_CENTERS) {
        let host = cluster.host(number);
        lab.inside(Lab::place(name), move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut relays = tokio::task::JoinSet::new();
                for port in FIRST..FIRST + COUNT {
                    let listener = TcpListener::bind((host.as_str(), port + APART)).await?;
                    relays.spawn(relay(listener, host.clone(), port));
                }
                while relays.join_next().await.is_some() {}
                Ok::<_, std::io::Error>(())
            })
        });
    }
}

async fn relay(listener: TcpListener, host: String, port: u16) {
    while let Ok((mut near, _)) = listener.accept().await {
        let host = host.clone();
        tokio::spawn(async move {
            // What fails here ends the connection, which the checker sees.
            if let Ok(mut database) = TcpStream::connect((host, port)).await {
                let _ = copy_bidirectional(&mut near, &mut database).await;
            }
        });
    }
}

/// Checks the books through the relays against the journal, which covers the whole life of the platform.
pub async fn verify(cluster: &Cluster) -> Result<Report, ClusterError> {
    let journal = Journal::read(&cluster.journal())?;
    let mut platform = cluster.platform()?;
    for place in platform.units.values_mut().flat_map(|unit| unit.replicas.values_mut()) {
        place.port += APART;
    }
    let options = Options { whole_life: true, ..Options::default() };
    Ok(verify::verify(&UnitSource::of_platform(&platform), Some(&journal), options, |_| {}).await?)
}
