//! History on its way from the nodes of a site to its control nodes.
#[cfg(test)]
mod site;
