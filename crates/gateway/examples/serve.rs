//! A gateway with a fixed table, for measuring: two units at home here, one instance, no control server. Its identity lies
//! in the folder, where `upstream` has put it.
//! `serve LISTEN INSTANCE THREADS FOLDER`

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;

use dujiang_gateway::{Options, run};
use dujiang_identity::Identity;
use dujiang_routing::table::ApplicationRoute;
use dujiang_routing::{Mode, RoutingTable, UnitRoute};
use dujiang_types::platform::{KeyForm, KeySource, RouteRule};
use dujiang_types::{AppId, DcId, Epoch, Revision, UnitId};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, instance, threads, folder] = &arguments[..] else {
        return Err("usage: serve LISTEN INSTANCE THREADS FOLDER".into());
    };
    let dc = DcId::new("a")?;
    let application = AppId::new("bank")?;
    let key = KeySource::Header { name: "x-customer".to_owned(), form: KeyForm::Hash };
    let route = ApplicationRoute {
        routes: vec![RouteRule { prefix: "/".to_owned(), key }],
        instances: BTreeMap::from([(dc.clone(), vec![instance.parse()?])]),
    };
    let unit = |name: &str, slots: &str| -> Result<UnitRoute, Box<dyn Error>> {
        Ok(UnitRoute {
            unit: UnitId::new(name)?,
            application: application.clone(),
            epoch: Epoch(1),
            home: dc.clone(),
            mode: Mode::Forward,
            slots: vec![slots.parse()?],
        })
    };
    let table = RoutingTable {
        version: Revision(1),
        units: vec![unit("unit-1", "0-8191")?, unit("unit-2", "8192-16383")?],
        mesh: BTreeMap::new(),
        applications: BTreeMap::from([(application.clone(), route)]),
        dns: None,
    };
    let cache = Path::new(folder).join("routing.json");
    std::fs::write(&cache, serde_json::to_vec(&table)?)?;
    let identity = Identity::from_file(&Path::new(folder).join("gateway.pem"))?;
    let mut options = Options::new(dc, identity, cache);
    options.listen = listen.parse()?;
    options.threads = threads.parse()?;
    Ok(run(options)?)
}
