//! What a running daemon can take over from a configuration that was read again.

use super::types::*;

/// The differences between two configurations, sorted by what can be done about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReloadPlan {
    /// What the shards are to run with now: the old configuration with the changes that can be
    /// applied. Compare the next reload with this one.
    pub config: Config,
    /// The fields that change now, such as `shards[0].nat.timeouts`, by index in the new file.
    pub applied: Vec<String>,
    /// The fields that differ but need a restart, likewise.
    pub restart: Vec<String>,
}

/// Plans the step from `old`, with which the shards run, to `new`.
///
/// What decides about packets by itself can be applied: the firewall, and of a shard's NAT
/// filtering, hairpinning, timeouts, exclusions and static mappings. Whatever memory, ports,
/// queues, sockets or the identity of a shard depend on needs a restart. Shards are matched by id;
/// the static mappings of one whose pool or inside networks differ have to wait with those.
pub fn reload_plan(old: &Config, new: &Config) -> ReloadPlan {
    let mut plan = ReloadPlan { config: old.clone(), applied: Vec::new(), restart: Vec::new() };
    let Config { eal, ports, shards, firewall, clock, control_socket, metrics_listen, cluster } =
        new;
    plan.keep_eal(&old.eal, eal);
    plan.keep("ports", &old.ports, ports);
    plan.keep("clock", &old.clock, clock);
    plan.keep("control.socket", &old.control_socket, control_socket);
    plan.keep("cluster", &old.cluster, cluster);
    plan.keep("metrics.listen", &old.metrics_listen, metrics_listen);
    let FirewallConfig { inbound, rules } = firewall;
    plan.apply("firewall.inbound", inbound, |config| &mut config.firewall.inbound);
    plan.apply("firewall.rules", rules, |config| &mut config.firewall.rules);
    for (index, shard) in shards.iter().enumerate() {
        match old.shards.iter().position(|other| other.id == shard.id) {
            Some(slot) => plan.shard(&format!("shards[{index}]"), slot, &old.shards[slot], shard),
            None => plan.restart.push(format!("shards[{index}]")),
        }
    }
    let gone = |shard: &&ShardConfig| shards.iter().all(|other| other.id != shard.id);
    if old.shards.iter().any(|shard| gone(&shard)) {
        plan.restart.push("shards".to_owned());
    }
    plan
}

impl ReloadPlan {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.applied.is_empty() && self.restart.is_empty()
    }

    /// Takes a field over.
    fn apply<T: PartialEq + Clone>(
        &mut self,
        path: &str,
        new: &T,
        field: impl FnOnce(&mut Config) -> &mut T,
    ) {
        let field = field(&mut self.config);
        if field != new {
            field.clone_from(new);
            self.applied.push(path.to_owned());
        }
    }

    /// Leaves a field as it is; whether it differs.
    fn keep<T: PartialEq>(&mut self, path: &str, old: &T, new: &T) -> bool {
        if old != new {
            self.restart.push(path.to_owned());
        }
        old != new
    }

    fn keep_eal(&mut self, old: &EalConfig, new: &EalConfig) {
        let EalConfig { memory, hugepages, lcores, idle, args } = new;
        self.keep("eal.memory", &old.memory, memory);
        self.keep("eal.hugepages", &old.hugepages, hugepages);
        self.keep("eal.lcores", &old.lcores, lcores);
        self.keep("eal.idle", &old.idle, idle);
        self.keep("eal.args", &old.args, args);
    }

    /// Plans the shard in `slot` of the old configuration.
    fn shard(&mut self, path: &str, slot: usize, old: &ShardConfig, new: &ShardConfig) {
        let ShardConfig { id: _, lcore, inside, outside, nat, scr, twin } = new;
        self.keep(&format!("{path}.lcore"), &old.lcore, lcore);
        let moved = self.keep(&format!("{path}.inside"), &old.inside, inside);
        self.keep(&format!("{path}.outside"), &old.outside, outside);
        self.keep(&format!("{path}.scr"), &old.scr, scr);
        self.keep(&format!("{path}.twin"), &old.twin, twin);
        match (&old.nat, nat) {
            // Replicas must not change but behind the same packet.
            (Some(_), _) | (_, Some(_)) if scr.is_some() || old.scr.is_some() => {
                self.keep(&format!("{path}.nat"), &old.nat, nat);
            }
            (Some(old), Some(new)) => self.nat(&format!("{path}.nat"), slot, old, new, moved),
            _ => {}
        }
    }

    fn nat(&mut self, path: &str, slot: usize, old: &NatConfig, new: &NatConfig, moved: bool) {
        let NatConfig {
            pool,
            sessions,
            mapping,
            filtering,
            ports,
            ports_per_subscriber,
            hairpinning,
            timeouts,
            exclude,
            static_mappings,
        } = new;
        let at = |field: &str| format!("{path}.{field}");
        fn nat(config: &mut Config, slot: usize) -> &mut NatConfig {
            config.shards[slot].nat.as_mut().expect("it translates")
        }
        let pool_differs = self.keep(&at("pool"), &old.pool, pool);
        self.keep(&at("sessions"), &old.sessions, sessions);
        self.keep(&at("mapping"), &old.mapping, mapping);
        self.keep(&at("ports"), &old.ports, ports);
        self.keep(&at("ports_per_subscriber"), &old.ports_per_subscriber, ports_per_subscriber);
        self.apply(&at("filtering"), filtering, |config| &mut nat(config, slot).filtering);
        self.apply(&at("hairpinning"), hairpinning, |config| &mut nat(config, slot).hairpinning);
        self.apply(&at("timeouts"), timeouts, |config| &mut nat(config, slot).timeouts);
        self.apply(&at("exclude"), exclude, |config| &mut nat(config, slot).exclude);
        // The new mappings fit the new pool and networks, not necessarily those that stay.
        let statics = at("static");
        if moved || pool_differs {
            self.keep(&statics, &old.static_mappings, static_mappings);
        } else {
            self.apply(&statics, static_mappings, |config| &mut nat(config, slot).static_mappings);
        }
    }
}
