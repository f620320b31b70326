//! Rounds, as `store/standby` makes them: both instances awake, what either lacks
//! is copied, what neither has is repaired.

use std::time::Duration;

use scatterhoard_proxy::pool::backup::Ending;
use scatterhoard_proxy::pool::instances::Meeting;
use scatterhoard_proxy::pool::lifecycle::{Event, Outcome};
use scatterhoard_proxy::pool::retire::{self, Ages, Goes};
use scatterhoard_wire::NodeId;

use super::bill::Purpose;
use super::node::{Answer, Call, Copy, Round, Us};
use super::settings::{LIST, micros};
use super::sim::{Due, Sim};

impl Sim<'_> {
    /// Begins the rounds that are due, in the order of the nodes, as many as there
    /// may be at once.
    pub(super) fn look(&mut self, now: Us) {
        if self.first_round > now {
            return;
        }
        let at = self.clock.at(now);
        let mut from = 0;
        while let Some(next) = self.round_due[from..].iter().position(|due| *due <= now) {
            if self.rounds_running >= self.settings.rounds_at_once {
                return;
            }
            let n = from + next;
            let silence = self.nodes[n].silence();
            if self.nodes[n].backup.begin(silence, at) {
                self.rounds_running += 1;
                self.open_round(n, now);
            }
            from = n + 1;
        }
        self.first_round = self.round_due.iter().copied().fold(Us::MAX, Us::min);
    }

    /// A round of the node may be due then.
    pub(super) fn expect_round(&mut self, n: usize, at: Us) {
        self.round_due[n] = at;
        self.first_round = self.first_round.min(at);
    }

    fn open_round(&mut self, n: usize, now: Us) {
        self.round_due[n] = Us::MAX;
        let at = self.clock.at(now);
        let node = &mut self.nodes[n];
        (node.is_urgent, node.fresh_bytes) = (false, 0);
        let Some(main_call) = node.begin(Event::RoundWanted, at) else {
            return self.fail(n, now);
        };
        let (main, hello) = self.route(n, None, now);
        self.nodes[n]
            .life
            .step(Event::Hello(main_call), self.clock.at(hello));
        if self.greet(n, main, now) {
            self.note_hurt(n, now);
        }
        let mut opened = hello;
        let mut second = None;
        if self.settings.backup.standby {
            let at = self.clock.at(hello);
            let Some(call) = self.nodes[n].begin(Event::CompanionWanted, at) else {
                return self.fail(n, now);
            };
            let (who, hello) = self.route(n, Some(main.slot), hello);
            self.nodes[n]
                .life
                .step(Event::Hello(call), self.clock.at(hello));
            self.greet_beside(n, who, now);
            opened = hello;
            second = Some((call, hello, who));
        }
        self.bring_together(n, (main_call, hello, main), second, opened + LIST);
    }

    fn bring_together(&mut self, n: usize, main: Call, second: Option<Call>, listed: Us) {
        let other = second.map(|(_, _, who)| who.id);
        if self.nodes[n].absent_but(other) == 0 {
            self.note_lost(n, listed);
        }
        if !self.is_hurt(n) {
            // what was missing is named no longer
            self.nodes[n].hurt_since = None;
        }
        let mut copies = Vec::new();
        if let Some((_, _, who)) = second {
            for chunk in &self.nodes[n].stock {
                let lacks = |slot: usize| chunk.on != 0 && chunk.on & 1 << slot == 0;
                let to = [main.2.slot, who.slot].into_iter().find(|s| lacks(*s));
                let object = chunk.object;
                copies.extend(to.map(|to| Copy { object, to }));
            }
        }
        copies.sort_by_key(|c| (c.to != main.2.slot, self.idleness(c.object)));
        // billed when it is over, by what was new
        let node = &mut self.nodes[n];
        node.rounds += 1;
        let number = node.rounds;
        node.round = Some(Round {
            number,
            main,
            second,
            copies: copies.into(),
        });
        self.next_copy(n, listed);
    }

    fn next_copy(&mut self, n: usize, now: Us) {
        let Some(round) = &mut self.nodes[n].round else {
            return;
        };
        let number = round.number;
        let Some(copy) = round.copies.front().copied() else {
            return self.schedule(now, Due::RoundOver(n as u16, number));
        };
        let bytes = self.chunk_bytes(copy.object);
        let at = self.clock.at(now);
        let begin = self.backup_rate.begin(bytes, at);
        let wait = begin.map_or(0, |b| micros(b.saturating_duration_since(at)));
        let done = now + wait + self.settings.transfer(bytes);
        self.schedule(done, Due::Copied(n as u16, number));
    }

    pub(super) fn copied(&mut self, n: usize, number: u32, now: Us) {
        let Some(round) = self.nodes[n].round.as_mut().filter(|r| r.number == number) else {
            return;
        };
        let Some(copy) = round.copies.pop_front() else {
            return;
        };
        let bytes = self.chunk_bytes(copy.object);
        self.hour(now).backup_bytes += bytes as f64;
        self.passes(bytes, bytes, now);
        let stock = &mut self.nodes[n].stock;
        // freed meanwhile, or stored anew
        if let Some(chunk) = stock.iter_mut().find(|c| c.object == copy.object)
            && chunk.on != 0
        {
            chunk.on |= 1 << copy.to;
        }
        self.next_copy(n, now);
    }

    pub(super) fn round_over(&mut self, n: usize, number: u32, now: Us) {
        if self.nodes[n]
            .round
            .as_ref()
            .is_some_and(|r| r.number == number)
        {
            self.end_round(n, true, now);
        }
    }

    /// An instance is gone in the middle of it.
    pub(super) fn break_round(&mut self, n: usize, now: Us) {
        if self.nodes[n].round.is_some() {
            self.end_round(n, false, now);
        }
    }

    fn end_round(&mut self, n: usize, succeeded: bool, now: Us) {
        let Some(round) = self.nodes[n].round.take() else {
            return;
        };
        let outcome = if succeeded {
            Outcome::Ok
        } else {
            Outcome::Failed
        };
        let (call, hello, main) = round.main;
        // the main instance is not told to return: it stays for its linger time;
        // a broken round may end before a hello that was taken as come
        let over = now.max(hello) + if succeeded { self.hold() } else { 1 };
        self.bill(Purpose::Backup, main, hello, over);
        let (at, left) = (self.clock.at(now), self.clock.at(over));
        self.nodes[n].used(main, over);
        if let Some((call, hello, who)) = round.second {
            self.nodes[n].used(who, now);
            self.bill(Purpose::Backup, who, hello, now.max(hello));
            let life = &mut self.nodes[n].life;
            life.step(Event::Goodbye(call), at);
            life.step(Event::Returned(call, outcome), at);
            if succeeded {
                self.nodes[n].met.merged(who.id);
            }
        }
        let node = &mut self.nodes[n];
        node.life.step(Event::Goodbye(call), left);
        node.life.step(Event::Returned(call, outcome), left);
        self.contact(n, over);
        if let (true, Some((_, _, who))) = (succeeded, round.second) {
            self.hand_over(n, main, who, now);
        }
        self.ended(n, succeeded, now);
    }

    /// As `Node::met_beside` of the pool.
    fn greet_beside(&mut self, n: usize, who: Answer, now: Us) {
        let at = self.clock.at(now);
        let node = &mut self.nodes[n];
        let had_others = node.met.has_others();
        let born = node.slots[who.slot].map_or(0, |i| i.born);
        let before = std::mem::replace(&mut node.other_born, born);
        let survived = match node.met.meet_beside(who.id, true) {
            Meeting::Back => Some(true),
            Meeting::Stranger => had_others.then_some(false),
            Meeting::First | Meeting::Same => None,
        };
        if self.settings.learns()
            && let Some(survived) = survived
        {
            let silence = at.saturating_duration_since(node.backup.last());
            // as it was before: of one that is back, the same
            let born = if survived { born } else { before };
            let age = Duration::from_micros((now as i64 - born).max(0) as Us);
            self.warmth.contact(silence, Some(age), survived, at);
        }
    }

    /// An instance goes, if it is time, now that each has what the other one has.
    fn hand_over(&mut self, n: usize, main: Answer, second: Answer, now: Us) {
        let born = |who: Answer| self.nodes[n].slots[who.slot].map(|i| i.born);
        let (Some(main_born), Some(second_born)) = (born(main), born(second)) else {
            return;
        };
        let age = |born: i64| Duration::from_micros((now as i64 - born).max(0) as Us);
        let ages = Ages {
            main: age(main_born),
            second: age(second_born),
        };
        let (id, at) = (NodeId(n as u16), self.clock.at(now));
        let wearing = match self.settings.retire {
            retire::Settings::Typical => self.warmth.wearing_age(),
            _ => None,
        };
        self.retirements.is_whole(id);
        let Some(goes) = self.retirements.choose(id, ages, wearing, at) else {
            return;
        };
        self.retirements.goes(id, at);
        let (old, stays) = match goes {
            Goes::Second => (second, main),
            Goes::Main => (main, second),
        };
        let node = &mut self.nodes[n];
        if goes == Goes::Main {
            node.meet(second.id);
            (node.main_born, node.other_born) = (second_born, main_born);
        }
        for chunk in &mut node.stock {
            // what came during the round is copied before it goes
            if chunk.on & 1 << old.slot != 0 {
                chunk.on = 1 << stays.slot;
            }
        }
        node.slots[old.slot] = None;
        node.met.merged(old.id);
        node.met.forget(old.id);
        node.urge();
        self.hour(now).retired += 1.0;
    }

    /// From one round to the next.
    pub(super) fn round_interval(&self, n: usize) -> Us {
        let (node, interval) = (&self.nodes[n], self.settings.backup.interval);
        micros(match node.fresh_bytes {
            0 => interval.max(node.silence()),
            _ => interval,
        })
    }

    fn fail(&mut self, n: usize, now: Us) {
        self.ended(n, false, now);
    }

    fn ended(&mut self, n: usize, succeeded: bool, now: Us) {
        let at = self.clock.at(now);
        let node = &mut self.nodes[n];
        let searching = node.met.absent() > 0;
        let how = if succeeded {
            Ending::Done
        } else {
            Ending::BrokenOff
        };
        node.backup.ended(how, searching, at);
        node.last_round = now;
        let soon = node.is_urgent || searching || !succeeded;
        let is_full = node.fresh_bytes >= self.settings.backup.after_bytes;
        let due = match (soon, self.settings.backup.standby) {
            (true, _) => now,
            (false, true) => now + self.round_interval(n),
            (false, false) => Us::MAX,
        };
        self.expect_round(n, if is_full { now } else { due });
        self.rounds_running -= 1;
        self.look_now(now);
    }
}
