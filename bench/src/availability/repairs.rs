//! Repairs, as `store/repair` makes them: a few objects at a time, in the order
//! of the production queue; an object is read from d nodes, and what is missing is
//! written to its own node.

use bytes::Bytes;
use scatterhoard_proxy::store::{Key, RepairJob};
use scatterhoard_wire::{Epoch, InstanceId, WriteId};

use super::bill::Purpose;
use super::node::Us;
use super::settings::micros;
use super::sim::{Due, Sim};

/// One of the repairs under way.
#[derive(Debug)]
pub(super) struct Worker {
    job: RepairJob,
    object: u32,
    /// Chunk, and the instance that gets it.
    targets: Vec<(usize, InstanceId)>,
}

impl Sim<'_> {
    /// What no instance has is queued.
    pub(super) fn note_lost(&mut self, n: usize, now: Us) {
        let lost: Vec<(u32, u8)> = {
            let stock = self.nodes[n].stock.iter().filter(|c| c.on == 0);
            stock.map(|c| (c.object, c.index)).collect()
        };
        for (object, index) in lost {
            let Some(counter) = self.objects[object as usize].write else {
                continue;
            };
            let job = RepairJob {
                key: Key {
                    db: 0,
                    bytes: Bytes::copy_from_slice(&object.to_be_bytes()),
                },
                write_id: WriteId {
                    epoch: Epoch(1),
                    counter,
                },
                missing: vec![usize::from(index)],
                damaged: Vec::new(),
                leaving: Vec::new(),
            };
            let idleness = self.idleness(object).max(1);
            self.repairs.add(job, idleness);
        }
        self.hand_out(now);
    }

    /// Gives waiting repairs to idle workers, as fast as is allowed.
    fn hand_out(&mut self, now: Us) {
        while let Some(worker) = self.workers.iter().position(Option::is_none)
            && let Some(job) = self.repairs.begin_next()
        {
            let mut number = [0; 4];
            number.copy_from_slice(&job.key.bytes);
            let object = u32::from_be_bytes(number);
            let at = self.clock.at(now);
            let begin = self.repair_rate.begin(self.size(object), at);
            let wait = begin.map_or(0, |b| micros(b.saturating_duration_since(at)));
            let targets = Vec::new();
            self.workers[worker] = Some(Worker {
                job,
                object,
                targets,
            });
            self.schedule(now + wait, Due::Begin(worker));
        }
    }

    pub(super) fn begin_repair(&mut self, worker: usize, now: Us) {
        let Some(mut work) = self.workers[worker].take() else {
            return;
        };
        let object = &self.objects[work.object as usize];
        let is_named = object.write == Some(work.job.write_id.counter);
        let nodes = object.nodes.clone();
        let has = |i: usize| {
            let stock = self.nodes[usize::from(nodes[i])].stock.iter();
            stock.filter(|c| c.object == work.object).any(|c| c.on != 0)
        };
        let sources: Vec<usize> = match is_named {
            true => (0..nodes.len()).filter(|i| has(*i)).collect(),
            false => Vec::new(),
        };
        let missing: Vec<usize> = match is_named {
            true => work
                .job
                .missing
                .iter()
                .copied()
                .filter(|i| !has(*i))
                .collect(),
            false => Vec::new(),
        };
        if missing.is_empty() {
            return self.give_back(worker, work, now);
        }
        let need = object.need;
        if sources.len() < need {
            let absent = |n: &u16| self.nodes[usize::from(*n)].met.absent();
            if nodes.iter().map(absent).sum::<usize>() == 0 {
                self.lose(work.object);
            }
            return self.give_back(worker, work, now);
        }
        let bytes = self.chunk_bytes(work.object);
        let busy = self.settings.transfer(bytes);
        for &i in sources.iter().take(need) {
            self.wake(usize::from(nodes[i]), Purpose::Repair, busy, now);
        }
        for i in missing {
            let n = usize::from(nodes[i]);
            self.wake(n, Purpose::Repair, busy, now);
            let node = &self.nodes[n];
            let main = node.main_slot().and_then(|slot| node.slots[slot]);
            work.targets.extend(main.map(|instance| (i, instance.id)));
        }
        let (read, written) = (bytes * need as u64, bytes * work.targets.len() as u64);
        self.hour(now).repair_bytes += (read + written) as f64;
        self.passes(read, written, now);
        // read and written at the same time, stripe by stripe
        self.workers[worker] = Some(work);
        self.schedule(now + self.settings.warm_hello + busy, Due::Repaired(worker));
    }

    pub(super) fn repaired(&mut self, worker: usize, now: Us) {
        let Some(work) = self.workers[worker].take() else {
            return;
        };
        let object = &self.objects[work.object as usize];
        if object.write == Some(work.job.write_id.counter) && !object.is_lost {
            let nodes = object.nodes.clone();
            for &(i, id) in &work.targets {
                self.restore(usize::from(nodes[i]), work.object, id, now);
            }
        }
        self.give_back(worker, work, now);
    }

    fn restore(&mut self, n: usize, object: u32, id: InstanceId, now: Us) {
        let node = &mut self.nodes[n];
        let slot = (0..2).find(|s| node.slots[*s].is_some_and(|i| i.id == id));
        let chunk = node.stock.iter_mut().find(|c| c.object == object);
        let (Some(slot), Some(chunk)) = (slot, chunk) else {
            return;
        };
        if chunk.on == 0 {
            self.objects[object as usize].there += 1;
        }
        chunk.on |= 1 << slot;
        let bytes = self.chunk_bytes(object);
        self.stored(n, bytes, now);
        self.hour(now).repairs += 1.0;
        self.note_whole(n, now);
    }

    fn give_back(&mut self, worker: usize, work: Worker, now: Us) {
        self.workers[worker] = None;
        self.repairs.done(work.job.write_id);
        self.hand_out(now);
    }
}
