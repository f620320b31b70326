<?php
// What a PHP application does with a cache: Symfony's RedisAdapter, and sessions in Redis.
// Prints what it sees as JSON lines of a label and a value.
require '/usr/share/php/Psr/SimpleCache/autoload.php';
require '/usr/share/php/Symfony/Component/Cache/autoload.php';

use Symfony\Component\Cache\Adapter\RedisAdapter;
use Symfony\Component\Cache\Adapter\RedisTagAwareAdapter;
use Symfony\Component\Cache\Psr16Cache;

[, $what, $port] = $argv;
$began = microtime(true);
// Sessions begin before the first output.
ob_start();

function note(string $label, mixed $value): void
{
    echo json_encode([$label, $value], JSON_THROW_ON_ERROR), "\n";
}

// A time to live, which may have run for as long as this has, to the second.
function near(int $seconds, int $expected): bool
{
    global $began;
    return $seconds <= $expected && $seconds >= $expected - (microtime(true) - $began) - 1;
}

function connection(int $port): Redis
{
    return RedisAdapter::createConnection("redis://127.0.0.1:$port/11", ['timeout' => 30]);
}

function body(int $length): string
{
    mt_srand(20265);
    $block = '';
    while (strlen($block) < min($length, 65536)) {
        $block .= pack('V', mt_rand());
    }
    return substr(str_repeat($block, intdiv($length, max(strlen($block), 1)) + 1), 0, $length);
}

function symfony(int $port): void
{
    $redis = connection($port);
    $cache = new RedisAdapter($redis, 'site', 300);
    foreach ([1, 100, 9000, 300000, 3000000, 120000000] as $length) {
        $item = $cache->getItem("body.$length");
        $before = $item->isHit();
        $saved = $cache->save($item->set(body($length)));
        $read = $cache->getItem("body.$length");
        note("$length bytes", [$before, $saved, $read->isHit(), $read->get() === body($length)]);
        unset($item, $read);
        $cache->deleteItem("body.$length");
    }
    $made = 0;
    $make = function ($item) use (&$made) {
        $item->expiresAfter(77);
        return ['made' => ++$made];
    };
    note('get', [$cache->get('dear', $make), $cache->get('dear', $make)]);
    note('ttl near 77', near($redis->ttl('site:dear'), 77));
    foreach (range(1, 30) as $number) {
        $cache->saveDeferred($cache->getItem("many.$number")->set($number));
    }
    note('commit', $cache->commit());
    $found = [];
    foreach ($cache->getItems(['many.1', 'many.30', 'many.31']) as $key => $item) {
        $found[$key] = [$item->isHit(), $item->get()];
    }
    note('items', $found);
    note('hasItem', [$cache->hasItem('many.2'), $cache->hasItem('many.99')]);
    note('deleteItems', [$cache->deleteItems(['many.2', 'many.3']), $cache->hasItem('many.2')]);
    note('clear by prefix', [$cache->clear('many.1'), $cache->hasItem('many.11'), $cache->hasItem('many.4')]);
    note('default lifetime near 300', near($redis->ttl('site:many.4'), 300));
    note('clear', [$cache->clear(), $cache->hasItem('many.4')]);
    $simple = new Psr16Cache($cache);
    note('PSR-16', [
        $simple->set('a', 1, 60), $simple->get('a'), $simple->get('b', 'default'),
        $simple->setMultiple(['c' => 1, 'd' => [2]]), $simple->getMultiple(['c', 'd', 'e'], 0),
        $simple->has('c'), $simple->delete('c'), $simple->has('c'), $simple->clear(),
    ]);
}

function tags(int $port): void
{
    $cache = new RedisTagAwareAdapter(connection($port), 'tagged');
    try {
        $saved = $cache->save($cache->getItem('a')->set(1)->tag(['news']));
        note('tags', [$saved, $cache->getItem('a')->isHit()]);
    } catch (Throwable $error) {
        note('tags', get_class($error));
    }
}

function sessions(int $port): void
{
    ini_set('session.save_handler', 'redis');
    ini_set('session.save_path', "tcp://127.0.0.1:$port?database=12&prefix=sess:");
    ini_set('session.use_cookies', '0');
    ini_set('session.cache_limiter', '');
    ini_set('session.gc_maxlifetime', '90');
    ini_set('redis.session.locking_enabled', '1');
    ini_set('redis.session.lock_expire', '30');
    ini_set('redis.session.lock_wait_time', '5000');
    ini_set('redis.session.lock_retries', '20');
    $redis = new Redis();
    $redis->connect('127.0.0.1', $port);
    $redis->select(12);

    session_id('one');
    note('start', session_start());
    note('new', $_SESSION);
    $_SESSION['cart'] = range(1, 100);
    $_SESSION['text'] = body(200000) === body(200000) ? base64_encode(body(200000)) : '';
    note('locked while open', $redis->exists('sess:one_LOCK'));
    note('close', session_write_close());
    note('unlocked', $redis->exists('sess:one_LOCK'));
    note('ttl near 90', near($redis->ttl('sess:one'), 90));
    $_SESSION = [];
    session_start();
    note('read back', [array_sum($_SESSION['cart']), $_SESSION['text'] === base64_encode(body(200000))]);
    note('regenerate', [session_regenerate_id(true), $redis->exists('sess:one')]);
    $new = session_id();
    session_write_close();
    note('under the new id', [$redis->exists("sess:$new"), array_sum($_SESSION['cart'])]);
    session_start();
    note('destroy', [session_destroy(), $redis->exists("sess:$new")]);

    // Another's lock: this one waits in vain.
    $redis->set('sess:two_LOCK', 'another', ['ex' => 20]);
    session_id('two');
    note('a locked session', [@session_start(), $redis->get('sess:two_LOCK')]);
    session_abort();
}

function lua(int $port): void
{
    // phpredis by itself: pipelines, transactions, scripts, scans.
    $redis = connection($port);
    note('pipeline', $redis->multi(Redis::PIPELINE)->set('a', 1)->incr('a')->get('a')->exec());
    note('transaction', $redis->multi()->set('b', 'x')->strlen('b')->ttl('b')->exec());
    note('script', [$redis->eval('return {KEYS[1], ARGV[1]}', ['k', 'v'], 1), $redis->getLastError()]);
    note('wrong script', [$redis->eval("return redis.call('INCR', KEYS[1])", ['b'], 1), $redis->getLastError()]);
    $redis->mset(array_combine(array_map(fn($n) => "s:$n", range(1, 200)), range(1, 200)));
    $redis->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
    [$found, $cursor] = [0, null];
    while ($keys = $redis->scan($cursor, 's:*', 20)) {
        $found += count($keys);
    }
    note('scan', $found);
    note('hashes', [$redis->hMSet('h', ['a' => 1, 'b' => 2]), $redis->hGetAll('h'), $redis->hIncrBy('h', 'a', 5)]);
    note('wrong type', [$redis->get('h'), $redis->getLastError()]);
    note('set with options', [$redis->set('c', 1, ['nx', 'px' => 50000]), $redis->set('c', 2, ['nx'])]);
}

$what((int) $port);
