//! The table of hosts and the instances behind them, and what is wrong with a site: pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::machine::Site;

/// Hosts, and for each the line that Nginx keeps of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table(BTreeMap<String, String>);

/// More instances of one application than one node runs.
const BACKENDS_MAX: usize = 1000;

impl Table {
    /// The table of some sites, and what is wrong with those that are not in it. A wrong site leaves the others alone.
    pub(super) fn of(sites: &BTreeMap<String, Site>) -> (Self, BTreeMap<String, String>) {
        let (mut table, mut wrong) = (BTreeMap::<String, (&str, String)>::new(), BTreeMap::new());
        for (uid, site) in sites {
            if let Err(problem) = check(uid, site) {
                wrong.insert(uid.clone(), problem);
                continue;
            }
            let mut line = format!("{uid} {}/{}", site.namespace, site.application);
            for backend in site.backends.iter().take(BACKENDS_MAX) {
                _ = write!(line, " {backend}");
            }
            for host in &site.hosts {
                match table.get(host.as_str()) {
                    Some((owner, _)) if owner != uid => {
                        let problem = format!("the host {host} leads to another application already");
                        wrong.insert(uid.clone(), problem);
                    }
                    _ => _ = table.insert(host.to_string(), (uid, line.clone())),
                }
            }
        }
        (Self(table.into_iter().map(|(host, (_, line))| (host, line)).collect()), wrong)
    }

    /// The whole, as lines.
    pub(super) fn lines(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, (host, line)| {
            _ = writeln!(text, "{host} {line}");
            text
        })
    }

    /// The lines that lead from another table to this one: a host alone is one that goes.
    pub(super) fn since(&self, before: &Self) -> String {
        let mut text = String::new();
        for (host, line) in &self.0 {
            if before.0.get(host) != Some(line) {
                _ = writeln!(text, "{host} {line}");
            }
        }
        for host in before.0.keys().filter(|host| !self.0.contains_key(*host)) {
            _ = writeln!(text, "{host}");
        }
        text
    }
}

fn check(uid: &str, site: &Site) -> Result<(), String> {
    let plain =
        |text: &str| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    match [uid, &site.namespace, &site.application].into_iter().find(|text| !plain(text)) {
        Some(bad) => Err(format!("{bad:?} is no name")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn site(hosts: &[&str], backends: &[&str]) -> Site {
        Site {
            namespace: "acme".to_owned(),
            application: "web".to_owned(),
            hosts: hosts.iter().map(|host| host.parse().unwrap()).collect(),
            backends: backends.iter().map(|address| address.parse().unwrap()).collect(),
        }
    }

    fn table<const N: usize>(sites: [(&str, Site); N]) -> (Table, BTreeMap<String, String>) {
        Table::of(&sites.into_iter().map(|(uid, site)| (uid.to_owned(), site)).collect())
    }

    #[test]
    fn a_table_has_a_line_a_host() {
        let (table, wrong) = table([
            ("a1", site(&["a.example.com", "www.a.example.com"], &["10.0.0.1:8080", "[fd00::1]:80"])),
            ("b2", site(&["b.example.com"], &[])),
        ]);
        assert!(wrong.is_empty());
        insta::assert_snapshot!(table.lines(), @"
        a.example.com a1 acme/web 10.0.0.1:8080 [fd00::1]:80
        b.example.com b2 acme/web
        www.a.example.com a1 acme/web 10.0.0.1:8080 [fd00::1]:80
        ");
    }

    #[test]
    fn a_wrong_site_is_named_and_leaves_the_others_alone() {
        for bad in ["", "a b", "a\nx.example.com y", "=generation", "a/b"] {
            let bad_site = Site { application: bad.to_owned(), ..site(&["a.example.com"], &["10.0.0.1:80"]) };
            let (table, wrong) = table([("bad", bad_site), ("good", site(&["b.example.com"], &["10.0.0.2:80"]))]);
            assert_eq!(table.lines(), "b.example.com good acme/web 10.0.0.2:80\n", "{bad:?}");
            assert_eq!(wrong.keys().collect::<Vec<_>>(), ["bad"]);
        }
    }

    #[test]
    fn a_host_has_one_owner() {
        let (table, wrong) =
            table([("a", site(&["x.example.com"], &[])), ("b", site(&["x.example.com", "y.example.com"], &[]))]);
        assert_eq!(table.lines(), "x.example.com a acme/web\ny.example.com b acme/web\n");
        assert_eq!(wrong["b"], "the host x.example.com leads to another application already");
    }

    fn any_table() -> impl Strategy<Value = Table> {
        proptest::collection::btree_map("[a-c]\\.(x|y)", "[a-z]{1,3} acme/web", 0..6).prop_map(Table)
    }

    proptest! {
        #[test]
        fn a_difference_leads_from_one_table_to_the_next(before in any_table(), after in any_table()) {
            let mut table = before.clone();
            for line in after.since(&before).lines() {
                match line.split_once(' ') {
                    Some((host, line)) => table.0.insert(host.to_owned(), line.to_owned()),
                    None => table.0.remove(line),
                };
            }
            prop_assert_eq!(table, after);
        }
    }
}
