//! A data center that is cut off from everybody while all its processes live.

use std::time::Duration;

use dujiang_lab::books;
use dujiang_lab::nets::Lab;
use dujiang_lab::observer::Observer;
use dujiang_testkit::cluster::PATIENCE;
use dujiang_testkit::journal::{self, Line, Outcome};
use dujiang_testkit::load::{Load, Mix, Options, Patience};
use dujiang_testkit::platform::BANK;
use dujiang_types::{DcId, UnitId};
use jiff::Timestamp;

use crate::{RATE, lab, platform};

/// Reads and payments alike: a primary that still answers a read has not stopped.
const MIX: Mix = Mix { within: 50, across: 0, deposits: 0, reversals: 0, reads: 50 };
/// A customer in the data center that is cut off gives up soon, or it would be waited for.
const SHORT: Patience = Patience { answer: Duration::from_secs(2), attempts: 1 };

/// Customers inside the isolated data center keep asking its gateway. The last answer they get comes before the new
/// primary of their unit begins; the old one has ended by then.
#[test]
fn an_isolated_primary_has_stopped_before_the_next_one_begins() {
    lab("partition::an_isolated_primary_has_stopped_before_the_next_one_begins", |lab| async move {
        let cluster = platform(&lab).await;
        let (home, unit) = (DcId::new("chengdu-1").unwrap(), UnitId::new("unit-1").unwrap());
        let place = Lab::place(home.as_str());
        books::open(&lab, &cluster);
        let known = cluster.platform().unwrap();
        let observer = Observer::start(&known);
        let load = cluster.load(RATE, Mix::PAYMENTS, 1).await.unwrap();

        // Beside those outside, there are customers within.
        let journal = cluster.data().with_file_name("inside.jsonl");
        let options = Options {
            gateways: known.gateways.iter().filter(|gateway| gateway.dc == home).cloned().collect(),
            units: known.unit_slots(BANK).into_iter().filter(|slots| slots.unit == unit).collect(),
            rate: RATE,
            duration: None,
            accounts: 20,
            mix: MIX,
            seed: 2,
            journal: journal.clone(),
            patience: SHORT,
        };
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let within = lab.inside(place, move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let load = Load::start(options).await.unwrap();
                stopped.await.unwrap();
                load.stop().await.unwrap();
            });
        });
        tokio::time::sleep(Duration::from_secs(3)).await;
        let cut = Timestamp::now();
        lab.isolate(place);
        let elsewhere = cluster.control().unwrap();
        let taken_over = elsewhere.wait_for(
            PATIENCE,
            |status| {
                let view = &status.units[&unit];
                let stays = view.unit.status.home == home || !view.serves();
                stays.then(|| "not taken over".to_owned())
            },
            |_| {},
        );
        taken_over.await.unwrap();
        // The customers within go on for a while: nobody must answer them as if nothing had happened.
        tokio::time::sleep(Duration::from_secs(5)).await;
        let healed = Timestamp::now();
        lab.heal();
        cluster.whole().await.unwrap();
        stop.send(()).unwrap();
        within.join().unwrap().unwrap();
        let summary = load.stop().await.unwrap();

        let reigns = observer.reigns();
        let of_unit: Vec<_> = reigns.iter().filter(|reign| reign.unit == unit).collect();
        let old = of_unit.iter().find(|reign| reign.dc == home).unwrap();
        let new = of_unit.iter().find(|reign| reign.dc != home).unwrap();
        let mut last_answer = None;
        let mut count = 0;
        journal::scan(&journal, |line| {
            if let Line::Ended(ended) = line
                && ended.at < healed
                && matches!(ended.outcome, Outcome::Acknowledged(_))
            {
                last_answer = last_answer.max(Some(ended.at));
                count += 1;
            }
        })
        .unwrap();
        println!("{cut} {home} is cut off");
        println!("{} its last answer to a customer within ({count} in all)", last_answer.unwrap());
        println!("{} its primary of {unit} is last seen running", old.until);
        println!("{} the primary in {} is first seen to be one", new.from, new.dc);
        assert!(old.until < new.from, "{of_unit:?}");
        // Of all answers until the network was whole again.
        assert!(last_answer.unwrap() < new.from);
        assert_eq!(observer.take_twice(), [""; 0]);
        assert!(summary.total.acknowledged > 100, "{:#?}", summary.total);
        // The books are checked against the journal of all customers, those within included.
        let merged = cluster.journal();
        let mut text = std::fs::read(&merged).unwrap();
        text.extend(std::fs::read(&journal).unwrap());
        std::fs::write(&merged, text).unwrap();
        let report = books::verify(&cluster).await.unwrap();
        assert!(report.is_clean(), "{:#?}", report.violations);
    });
}
