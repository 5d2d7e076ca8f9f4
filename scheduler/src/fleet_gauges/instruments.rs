//! The instruments of the fleet's gauges. They export what the leading scheduler read last; other schedulers export
//! nothing, so that nothing is counted twice.

use std::{collections::HashMap, sync::Arc};

use opentelemetry::{KeyValue, metrics::Meter};
use parking_lot::Mutex;

use virtuozo_store::{
    gauges::{Gauge, GaugeReadings},
    views::RpoLine,
};

/// The gauges and their values; none where another scheduler leads, or the values could not be read.
#[derive(Clone, Default)]
pub(crate) struct FleetInstruments {
    read: Arc<Mutex<Option<Arc<Fleet>>>>,
}

struct Fleet {
    gauges: HashMap<String, Vec<Gauge>>,
    guests: Vec<Guest>,
}

/// A guest and its recovery point objective.
struct Guest {
    labels: [KeyValue; 2],
    line: RpoLine,
}

impl FleetInstruments {
    /// Enters the gauges among the instruments of this process.
    pub(crate) fn register(meter: &Meter) -> Self {
        let gauges = Self::default();
        gauges.build(meter);
        gauges
    }

    /// The values from now on.
    pub(crate) fn set(&self, values: Option<GaugeReadings>) {
        let fleet = values.map(|values| {
            let mut by_name: HashMap<String, Vec<Gauge>> = HashMap::new();
            for value in values.all {
                by_name.entry(value.name.clone()).or_default().push(value);
            }
            Arc::new(Fleet {
                gauges: by_name,
                guests: guests(values.guests),
            })
        });
        *self.read.lock() = fleet;
    }

    fn now(&self) -> Option<Arc<Fleet>> {
        self.read.lock().clone()
    }

    fn build(&self, meter: &Meter) {
        for (source, name, unit, label, about) in GAUGES {
            let gauges = self.clone();
            meter
                .f64_observable_gauge(name)
                .with_unit(unit)
                .with_description(about)
                .with_callback(move |into| {
                    let Some(fleet) = gauges.now() else { return };
                    for one in fleet.gauges.get(source).into_iter().flatten() {
                        let of = one.of.as_ref().map(|of| KeyValue::new(label, of.clone()));
                        into.observe(one.value, of.as_slice());
                    }
                })
                .build();
        }
        type Read = fn(&RpoLine) -> Option<f64>;
        let of_guests: [(_, _, _, Read); 3] = [
            (
                "virtuozo.guest.last_restore_point.timestamp",
                "s",
                "The instant that the guest's newest good restore point holds, in seconds since 1970",
                |line| line.last_point_at.map(|at| at.timestamp() as f64),
            ),
            (
                "virtuozo.guest.rpo",
                "s",
                "How old the guest's newest good restore point may be",
                |line| line.rpo_secs.map(f64::from),
            ),
            (
                "virtuozo.guest.rpo_exceeded",
                "{guest}",
                "1 if the guest's newest good restore point is older than that, or there is none in that time",
                |line| Some(f64::from(u8::from(line.exceeded))),
            ),
        ];
        for (name, unit, about, value) in of_guests {
            let gauges = self.clone();
            meter
                .f64_observable_gauge(name)
                .with_unit(unit)
                .with_description(about)
                .with_callback(move |into| {
                    let Some(fleet) = gauges.now() else { return };
                    for guest in &fleet.guests {
                        if let Some(value) = value(&guest.line) {
                            into.observe(value, &guest.labels);
                        }
                    }
                })
                .build();
        }
    }
}

/// Two guests of a host may have one name; then the paths of their `.vmx` tell them apart.
fn guests(lines: Vec<RpoLine>) -> Vec<Guest> {
    let mut named: HashMap<(String, String), usize> = HashMap::new();
    for line in &lines {
        *named
            .entry((line.host.clone(), line.guest.clone()))
            .or_default() += 1;
    }
    let of = |line: RpoLine| {
        let is_alone = named.get(&(line.host.clone(), line.guest.clone())) == Some(&1);
        let name = if is_alone { &line.guest } else { &line.locator };
        let labels = [
            KeyValue::new("host", line.host.clone()),
            KeyValue::new("guest", name.clone()),
        ];
        Guest { labels, line }
    };
    lines.into_iter().map(of).collect()
}

/// Name in the statement, name of the gauge, unit, label, what it is.
const GAUGES: [(&str, &str, &str, &str, &str); 12] = [
    (
        "queue_jobs",
        "virtuozo.queue.jobs",
        "{job}",
        "queue",
        "Jobs that are due and that no worker has claimed",
    ),
    (
        "queue_age",
        "virtuozo.queue.oldest.age",
        "s",
        "queue",
        "How long the oldest of them has been due; 0 without any",
    ),
    (
        "guest_runs",
        "virtuozo.guest_runs.open",
        "{guest_run}",
        "state",
        "Guest runs that have not ended",
    ),
    (
        "runs",
        "virtuozo.runs.open",
        "{run}",
        "",
        "Runs that have not ended",
    ),
    (
        "slots",
        "virtuozo.host.slots",
        "{slot}",
        "host",
        "Guests of a host that may be in work at once",
    ),
    (
        "slots_used",
        "virtuozo.host.slots_used",
        "{slot}",
        "host",
        "Guests of a host that are in work",
    ),
    (
        "host_up",
        "virtuozo.host.reachable",
        "{host}",
        "host",
        "0 where the host was unreachable or refused us when it was last looked at, otherwise 1",
    ),
    (
        "obligations",
        "virtuozo.obligations.open",
        "{obligation}",
        "kind",
        "What is to be undone on hosts, also by runs that are in work",
    ),
    (
        "obligations_failing",
        "virtuozo.obligations.failing",
        "{obligation}",
        "kind",
        "What could not be undone in three attempts or more",
    ),
    (
        "snapshot_age",
        "virtuozo.snapshot.oldest.age",
        "s",
        "",
        "How long ago the oldest snapshot of ours was taken that is not removed yet; 0 without any",
    ),
    (
        "processes",
        "virtuozo.processes",
        "{process}",
        "kind",
        "Schedulers and workers that give signs of life",
    ),
    (
        "notices_failing",
        "virtuozo.notices.failing",
        "{notice}",
        "channel",
        "Notices that have not got through yet, or were given up in the last seven days",
    ),
];
