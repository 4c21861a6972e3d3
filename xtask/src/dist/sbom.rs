//! A bill of materials in CycloneDX's JSON form (1.5): every crate that is linked into the product, with licence, hash and whom it serves.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};

use super::read;
use crate::place;
use crate::steps::cargo;

/// Writes it.
pub(super) fn write(to: &Path, epoch: &str) -> anyhow::Result<()> {
    let text = read(&mut cargo([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        &platform(),
    ]))?;
    let metadata: Value = serde_json::from_str(&text)?;
    let lock: toml::Table = fs::read_to_string(place::root().join("Cargo.lock"))?.parse()?;
    let document = document(&metadata, &checksums(&lock), epoch)?;
    fs::write(to, format!("{document:#}\n")).with_context(|| format!("cannot write {}", to.display()))
}

fn platform() -> String {
    format!("{}-unknown-linux-gnu", std::env::consts::ARCH)
}

/// SHA-256 of each crate's archive, by name and version.
fn checksums(lock: &toml::Table) -> BTreeMap<(String, String), String> {
    let packages = lock.get("package").and_then(toml::Value::as_array).into_iter().flatten();
    let text = |package: &toml::Value, key: &str| package.get(key)?.as_str().map(str::to_owned);
    packages
        .filter_map(|one| Some(((text(one, "name")?, text(one, "version")?), text(one, "checksum")?)))
        .collect()
}

fn document(
    metadata: &Value,
    checksums: &BTreeMap<(String, String), String>,
    epoch: &str,
) -> anyhow::Result<Value> {
    let packages = by_id(metadata.get("packages"));
    let nodes = by_id(metadata.pointer("/resolve/nodes"));
    let product = packages.iter().find(|(_, package)| text(package, "name") == Some("phalanx"));
    let (&root, product) = product.context("cargo knows no package `phalanx`")?;
    // What is only needed to build or test is no part of it.
    let (mut linked, mut open) = (BTreeSet::from([root]), vec![root]);
    let mut dependencies = Vec::new();
    while let Some(id) = open.pop() {
        let needs = nodes.get(id).map(|node| linked_by(node)).unwrap_or_default();
        dependencies.push(json!({ "ref": id, "dependsOn": needs }));
        open.extend(needs.into_iter().filter(|needed| linked.insert(needed)));
    }
    dependencies.sort_by_key(|one: &Value| text(one, "ref").map(str::to_owned));
    let others = linked.iter().filter(|id| **id != root);
    let components: Vec<Value> =
        others.filter_map(|id| packages.get(id).map(|package| component(package, checksums))).collect();
    Ok(json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": timestamp(epoch)?,
            "component": { "type": "application", "bom-ref": root, "name": "phalanx", "version": text(product, "version"),
                           "licenses": [{ "expression": text(product, "license") }] },
        },
        "components": components,
        "dependencies": dependencies,
    }))
}

fn by_id(list: Option<&Value>) -> BTreeMap<&str, &Value> {
    let list = list.and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|one| Some((text(one, "id")?, one))).collect()
}

fn text<'a>(value: &'a Value, key: &str) -> Option<&'a str> {
    value.get(key)?.as_str()
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value.get(key).and_then(Value::as_array).into_iter().flatten()
}

fn linked_by(node: &Value) -> Vec<&str> {
    let is_linked =
        |dep: &&Value| list(dep, "dep_kinds").any(|one| one.get("kind").is_some_and(Value::is_null));
    list(node, "deps").filter(is_linked).filter_map(|dep| text(dep, "pkg")).collect()
}

fn component(package: &Value, checksums: &BTreeMap<(String, String), String>) -> Value {
    let own = |key: &str| text(package, key).unwrap_or_default().to_owned();
    let (name, version) = (own("name"), own("version"));
    // Some crates write `/` for what SPDX calls OR.
    let licences =
        text(package, "license").map(|licence| json!({ "expression": licence.replace('/', " OR ") }));
    let sum = checksums.get(&(name.clone(), version.clone()));
    json!({
        "type": "library",
        "bom-ref": own("id"),
        "purl": format!("pkg:cargo/{name}@{version}"),
        "name": name,
        "version": version,
        "licenses": licences.into_iter().collect::<Vec<_>>(),
        "hashes": sum.iter().map(|sum| json!({ "alg": "SHA-256", "content": sum })).collect::<Vec<_>>(),
    })
}

/// Unix seconds as the form wants them.
fn timestamp(epoch: &str) -> anyhow::Result<String> {
    let at = format!("@{epoch}");
    Ok(read(std::process::Command::new("date").args(["--utc", "+%Y-%m-%dT%H:%M:%SZ", "-d", &at]))?
        .trim()
        .to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_linked_is_listed_with_its_hash_and_what_only_builds_or_tests_is_not() {
        let dep = |id: &str, kind: Value| json!({ "pkg": id, "dep_kinds": [{ "kind": kind }] });
        let metadata = json!({
            "packages": [
                { "id": "p", "name": "phalanx", "version": "1.0.0", "license": "Apache-2.0" },
                { "id": "a", "name": "a", "version": "2.0.0", "license": "MIT/Apache-2.0" },
                { "id": "b", "name": "b", "version": "3.0.0", "license": "MIT" },
                { "id": "t", "name": "t", "version": "4.0.0", "license": "MIT" },
            ],
            "resolve": { "nodes": [
                { "id": "p", "deps": [dep("a", Value::Null), dep("t", json!("dev"))] },
                { "id": "a", "deps": [dep("b", Value::Null), dep("t", json!("build"))] },
                { "id": "b", "deps": [] },
                { "id": "t", "deps": [] },
            ] },
        });
        let checksums = BTreeMap::from([(("a".to_owned(), "2.0.0".to_owned()), "00ff".to_owned())]);
        let document = document(&metadata, &checksums, "0").unwrap();
        let names: Vec<_> =
            document["components"].as_array().unwrap().iter().map(|one| &one["purl"]).collect();
        assert_eq!(names, ["pkg:cargo/a@2.0.0", "pkg:cargo/b@3.0.0"]);
        assert_eq!(document["components"][0]["hashes"][0]["content"], "00ff");
        assert_eq!(document["components"][0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        assert_eq!(document["metadata"]["timestamp"], "1970-01-01T00:00:00Z");
    }
}
