//! Pure: what gossip heard, look by look, to the members that the rest of the server sees.
//!
//! Two things are decided here. A server that gossip calls dead counts as dead only after [`LOOKS_BEFORE_DEAD`] looks
//! of ours in a row, so that a pause of *this* process (which makes everybody look silent at once) loses nobody.
//! And of several lives of one name the newest alone counts: a server that starts again replaces its former self.

use std::collections::BTreeMap;

/// Looks in a row that must find a server silent. Looks are never made up for after a pause.
pub const LOOKS_BEFORE_DEAD: u32 = 3;

/// What the others do with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberState {
    /// Takes work.
    Ready,
    /// Finishes what it has and takes nothing new.
    Draining,
    /// Not heard of; shown until it is forgotten or starts again.
    Dead,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    /// `HOST:PORT` of its gRPC port.
    pub address: String,
    pub state: MemberState,
    pub version: String,
    pub cores: u32,
    pub memory_bytes: u64,
}

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Announced {
    Ready,
    Draining,
    /// It said goodbye; it is no member any more.
    Left,
}

/// One life of one server, as gossip has it now.
#[derive(Debug, Clone)]
pub(super) struct Sighting {
    /// Start time of that life.
    pub life: u64,
    pub silent: bool,
    pub announced: Announced,
    /// Its `state` is not filled in yet.
    pub member: Member,
}

/// Remembers between looks how long a server has been silent.
#[derive(Debug, Default)]
pub(super) struct View {
    silent_looks: BTreeMap<(String, u64), u32>,
}

impl View {
    /// One look: every life that gossip knows, in any order, to the members sorted by name.
    pub(super) fn look(&mut self, sightings: Vec<Sighting>) -> Vec<Member> {
        let mut silent_looks = BTreeMap::new();
        let mut newest: BTreeMap<String, Sighting> = BTreeMap::new();
        for sighting in sightings {
            let name = sighting.member.name.clone();
            if sighting.silent {
                let key = (name.clone(), sighting.life);
                let looks = self.silent_looks.get(&key).copied().unwrap_or(0);
                silent_looks.insert(key, looks.saturating_add(1));
            }
            match newest.get(&name) {
                Some(known) if known.life >= sighting.life => {}
                _ => {
                    newest.insert(name, sighting);
                }
            }
        }
        self.silent_looks = silent_looks;
        newest
            .into_iter()
            .filter(|(_, sighting)| sighting.announced != Announced::Left)
            .map(|(name, sighting)| {
                let looks = self.silent_looks.get(&(name, sighting.life));
                let state = match sighting.announced {
                    _ if looks.is_some_and(|looks| *looks >= LOOKS_BEFORE_DEAD) => {
                        MemberState::Dead
                    }
                    Announced::Draining | Announced::Left => MemberState::Draining,
                    Announced::Ready => MemberState::Ready,
                };
                Member {
                    state,
                    ..sighting.member
                }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(name: &str, life: u64, silent: bool, announced: Announced) -> Sighting {
        Sighting {
            life,
            silent,
            announced,
            member: Member {
                name: name.to_owned(),
                address: format!("{name}:{life}"),
                state: MemberState::Ready,
                version: String::from("1"),
                cores: 2,
                memory_bytes: 3,
            },
        }
    }

    fn states(members: &[Member]) -> Vec<(&str, MemberState)> {
        members
            .iter()
            .map(|member| (member.name.as_str(), member.state))
            .collect()
    }

    #[test]
    fn a_server_is_dead_after_several_silent_looks_in_a_row() {
        let mut view = View::default();
        for _ in 1..LOOKS_BEFORE_DEAD {
            let members = view.look(vec![sighting("a", 1, true, Announced::Ready)]);
            assert_eq!(states(&members), [("a", MemberState::Ready)]);
        }
        let members = view.look(vec![sighting("a", 1, true, Announced::Ready)]);
        assert_eq!(states(&members), [("a", MemberState::Dead)]);
    }

    #[test]
    fn one_sign_of_life_starts_the_count_anew() {
        let mut view = View::default();
        for _ in 0..10 {
            view.look(vec![sighting("a", 1, true, Announced::Ready)]);
            let members = view.look(vec![sighting("a", 1, false, Announced::Ready)]);
            assert_eq!(states(&members), [("a", MemberState::Ready)]);
        }
    }

    #[test]
    fn a_restarted_server_replaces_its_former_self() {
        let mut view = View::default();
        for _ in 0..5 {
            let members = view.look(vec![
                sighting("a", 1, true, Announced::Ready),
                sighting("a", 2, false, Announced::Ready),
                sighting("b", 1, false, Announced::Draining),
            ]);
            assert_eq!(
                states(&members),
                [("a", MemberState::Ready), ("b", MemberState::Draining)]
            );
            assert_eq!(members[0].address, "a:2");
        }
    }

    #[test]
    fn a_server_that_said_goodbye_is_gone_and_so_are_its_former_lives() {
        let mut view = View::default();
        let members = view.look(vec![
            sighting("a", 2, false, Announced::Left),
            sighting("a", 1, true, Announced::Ready),
        ]);
        assert!(members.is_empty());
    }
}
