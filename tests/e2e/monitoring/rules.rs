//! Dashboards, alerts and the scrape configuration name only what there is, in queries that parse.

use std::{
    collections::{BTreeMap, BTreeSet},
    convert::Infallible,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use promql_parser::{
    parser::{self, Expr, VectorSelector},
    util::{ExprVisitor, walk_expr},
};
use serde_json::Value;

use super::catalogue::{Catalogue, documented, of_the_fleet};

fn deployed(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy")
        .join(path)
}

fn yaml(path: &str) -> Result<Value> {
    let text = fs::read_to_string(deployed(path))?;
    serde_saphyr::from_str(&text).with_context(|| path.to_owned())
}

/// What a query asks for.
#[derive(Default)]
struct Asked {
    selectors: Vec<(String, BTreeSet<String>)>,
    /// Labels that results are grouped by.
    groups: BTreeSet<String>,
    /// Of whose metrics it asks for the value of the moment.
    of_now: BTreeSet<String>,
}

impl Asked {
    fn select(&mut self, selector: &VectorSelector) {
        let labels = selector.matchers.matchers.iter().map(|m| m.name.clone());
        let name = selector.name.clone().unwrap_or_default();
        self.selectors.push((name, labels.collect()));
    }
}

impl ExprVisitor for Asked {
    type Error = Infallible;

    fn pre_visit(&mut self, expr: &Expr) -> Result<bool, Infallible> {
        match expr {
            Expr::VectorSelector(selector) => {
                self.of_now.extend(selector.name.clone());
                self.select(selector);
            }
            Expr::MatrixSelector(matrix) => self.select(&matrix.vs),
            Expr::Aggregate(aggregate) => {
                let labels = aggregate.modifier.iter().flat_map(|m| &m.labels().labels);
                self.groups.extend(labels.cloned());
            }
            _ => {}
        }
        Ok(true)
    }
}

fn asked(query: &str) -> Result<Asked> {
    let query = query
        .replace("$__rate_interval", "5m")
        .replace("$__range", "1d")
        .replace("$host", "alpha");
    let expr = parser::parse(&query).map_err(anyhow::Error::msg)?;
    let mut asked = Asked::default();
    let Ok(_) = walk_expr(&mut asked, &expr);
    Ok(asked)
}

/// Holds a query against what is documented; returns the labels that its results have or may have.
fn check(query: &str, catalogue: &Catalogue) -> Result<BTreeSet<String>> {
    let asked = asked(query)?;
    ensure!(!asked.selectors.is_empty(), "it asks for nothing");
    let mut known = BTreeSet::new();
    for (name, labels) in &asked.selectors {
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|part| name.strip_suffix(part))
            .filter(|family| {
                catalogue
                    .get(*family)
                    .is_some_and(|m| m.kind == "histogram")
            });
        let metric = catalogue.get(family.unwrap_or(name));
        let metric = metric.with_context(|| format!("there is no {name}"))?;
        let mut has = metric.labels.clone();
        // What Prometheus adds, and what a histogram has.
        has.extend(["instance".to_owned(), "job".to_owned()]);
        if family.is_some() {
            has.insert("le".to_owned());
        }
        ensure!(
            labels.is_subset(&has),
            "{name} has no labels {labels:?}, but {has:?}"
        );
        known.extend(has);
    }
    ensure!(
        asked.groups.is_subset(&known),
        "nothing has the labels {:?}",
        asked.groups
    );
    Ok(if asked.groups.is_empty() {
        known
    } else {
        asked.groups
    })
}

/// The words between `before` and `after` in a text.
fn between<'a>(text: &'a str, before: &'a str, after: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(before)
        .skip(1)
        .filter_map(move |rest| Some(rest.split_once(after)?.0.trim()))
}

#[test]
fn alerts_ask_for_what_there_is_and_say_what_to_do() -> Result<()> {
    let catalogue = documented()?;
    let alerts = yaml("prometheus/alerts.yml")?;
    let rules = alerts["groups"][0]["rules"]
        .as_array()
        .context("no rules")?;
    ensure!(rules.len() >= 7);
    let mut names = BTreeSet::new();
    let of_the_fleet = of_the_fleet();
    for rule in rules {
        let name = rule["alert"].as_str().context("no name")?;
        ensure!(names.insert(name), "{name} is there twice");
        let query = rule["expr"].as_str().context("no query")?;
        let labels = check(query, &catalogue).with_context(|| name.to_owned())?;
        for metric in asked(query)?.of_now {
            ensure!(
                !of_the_fleet.contains(metric.as_str()),
                "{name}: while the lead moves nobody tells {metric}; ask for last_over_time"
            );
        }
        let severity = rule["labels"]["severity"].as_str();
        ensure!(matches!(severity, Some("critical" | "warning")), "{name}");
        for part in ["summary", "description"] {
            let text = rule["annotations"][part].as_str().context(part)?;
            for label in between(text, "$labels.", "}}") {
                ensure!(
                    labels.contains(label),
                    "{name}: nothing has the label {label}"
                );
            }
        }
    }
    let page = include_str!("../../../docs/reference/metrics.md");
    for alert in between(page, "`Virtuozo", "`") {
        let alert = format!("Virtuozo{alert}");
        ensure!(names.contains(alert.as_str()), "there is no alert {alert}");
    }
    Ok(())
}

#[test]
fn dashboards_ask_for_what_there_is() -> Result<()> {
    let catalogue = documented()?;
    let (mut boards, mut queries) = (0, 0);
    let mut asked = String::new();
    for file in fs::read_dir(deployed("grafana/dashboards"))? {
        let path = file?.path();
        let board: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
        boards += 1;
        ensure!(board["uid"].is_string() && board["title"].is_string());
        for variable in board["templating"]["list"]
            .as_array()
            .context("no variables")?
        {
            let query = variable["query"].as_str().context("no query")?;
            let of = between(query, "label_values(", ")")
                .next()
                .context("another query")?;
            let (metric, label) = of.split_once(", ").context("no label")?;
            ensure!(catalogue[metric].labels.contains(label), "{query}");
        }
        for panel in board["panels"].as_array().context("no panels")? {
            let title = panel["title"].as_str().context("no title")?;
            for target in panel["targets"].as_array().context("no targets")? {
                let query = target["expr"].as_str().context("no query")?;
                let labels = check(query, &catalogue)
                    .with_context(|| format!("{}: {title}: {query}", path.display()))?;
                let legend = target["legendFormat"].as_str().unwrap_or_default();
                for label in between(legend, "{{", "}}") {
                    ensure!(
                        labels.contains(label),
                        "{title}: nothing has the label {label}"
                    );
                }
                asked += query;
                queries += 1;
            }
        }
    }
    ensure!(
        boards == 3 && queries > 20,
        "{boards} boards, {queries} queries"
    );
    for name in catalogue.keys() {
        ensure!(asked.contains(name), "no dashboard shows {name}");
    }
    Ok(())
}

#[test]
fn the_scrape_configuration_names_the_rules_and_both_kinds_of_process() -> Result<()> {
    let config = yaml("prometheus/prometheus.yml")?;
    for file in config["rule_files"].as_array().context("no rules")? {
        let file = file.as_str().context("not a name")?;
        ensure!(deployed("prometheus").join(file).exists(), "{file}");
    }
    let jobs = config["scrape_configs"].as_array().context("no jobs")?;
    let of = |job: &Value| {
        job["dns_sd_configs"][0]["names"][0]
            .as_str()
            .map(str::to_owned)
    };
    let services: Vec<_> = jobs.iter().filter_map(of).collect();
    ensure!(services == ["scheduler", "worker"], "{services:?}");
    Ok(())
}

#[test]
fn prometheus_and_grafana_of_the_compose_file_find_what_is_provisioned() -> Result<()> {
    let compose = yaml("../compose.yaml")?;
    let services = &compose["services"];
    // Each file that is mounted is in the repository.
    let mut mounted = BTreeMap::new();
    for service in ["prometheus", "grafana"] {
        let volumes = services[service]["volumes"].as_array();
        for volume in volumes.context("no volumes")? {
            let parts: Vec<_> = volume.as_str().context("no text")?.split(':').collect();
            if let [from, to, mode] = parts[..] {
                ensure!(mode == "ro" && deployed("..").join(from).is_dir(), "{from}");
                mounted.insert((service, to), from.trim_start_matches("./deploy/"));
            }
        }
        ensure!(services[service]["profiles"][0] == "monitoring");
    }
    // Where Prometheus looks by itself.
    ensure!(mounted[&("prometheus", "/etc/prometheus")] == "prometheus");
    let scraped = yaml("prometheus/prometheus.yml")?;
    for job in scraped["scrape_configs"].as_array().context("no jobs")? {
        let asked = &job["dns_sd_configs"][0];
        let service = asked["names"][0].as_str().context("no name")?;
        let listens = services[service]["environment"]["VIRTUOZO_LISTEN"].as_str();
        let (_, port) = listens
            .and_then(|at| at.rsplit_once(':'))
            .context(service.to_owned())?;
        ensure!(
            asked["port"] == port.parse::<u16>()?,
            "{service}: {asked}, not {port}"
        );
    }

    let provisioning = mounted[&("grafana", "/etc/grafana/provisioning")];
    let sources = yaml(&format!("{provisioning}/datasources/prometheus.yml"))?;
    let source = &sources["datasources"][0];
    let port = services["prometheus"]["ports"][0]
        .as_str()
        .context("no port")?;
    let port = port.rsplit(':').next().context("no port")?;
    ensure!(
        source["url"] == format!("http://prometheus:{port}"),
        "{source}"
    );
    let providers = yaml(&format!("{provisioning}/dashboards/virtuozo.yml"))?;
    let path = providers["providers"][0]["options"]["path"].as_str();
    let boards = mounted[&("grafana", path.context("no path")?)];
    let mut named = BTreeSet::new();
    for file in fs::read_dir(deployed(boards))? {
        let board: Value = serde_json::from_str(&fs::read_to_string(file?.path())?)?;
        sources_of(&board, &mut named);
    }
    let provisioned = (source["type"].to_string(), source["uid"].to_string());
    ensure!(
        named == BTreeSet::from([provisioned]),
        "{named:?}, not {source}"
    );
    Ok(())
}

/// The kinds and ids of the data sources that a dashboard names.
fn sources_of(value: &Value, into: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(fields) => {
            if let Some(source) = fields.get("datasource") {
                into.insert((source["type"].to_string(), source["uid"].to_string()));
            }
            fields.values().for_each(|field| sources_of(field, into));
        }
        Value::Array(all) => all.iter().for_each(|one| sources_of(one, into)),
        _ => {}
    }
}

#[test]
fn a_wrong_name_label_or_query_would_be_found() -> Result<()> {
    let catalogue = documented()?;
    for wrong in [
        "sum(virtuozo_no_such_metric)",
        "sum by (guest) (virtuozo_host_slots)",
        "virtuozo_host_slots{guest=\"mail\"}",
        "sum(virtuozo_host_slots",
        "rate(virtuozo_copy_bytes_total)",
        "virtuozo_host_slots_bucket",
        "1 + 1",
    ] {
        ensure!(check(wrong, &catalogue).is_err(), "{wrong} was not found");
    }
    Ok(())
}
