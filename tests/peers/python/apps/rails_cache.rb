# What a Rails application does with its cache store. Prints what it sees as JSON lines of a label
# and a value.
require 'json'
require 'active_support'
require 'active_support/cache'
require 'active_support/cache/redis_cache_store'
require 'active_support/core_ext/numeric/time'
require 'active_support/notifications'

PORT = Integer(ARGV[0])
BEGAN = Process.clock_gettime(Process::CLOCK_MONOTONIC)

def note(label, value)
  puts JSON.generate([label, value])
end

def body(length)
  Random.new(20_265).bytes([length, 65_536].min).then { |block| (block * (length / block.bytesize + 1)).byteslice(0, length) }
end

errors = []
CACHE = ActiveSupport::Cache::RedisCacheStore.new(
  url: "redis://127.0.0.1:#{PORT}/13", namespace: 'shop', expires_in: 10.minutes,
  connect_timeout: 10, read_timeout: 60, write_timeout: 60, reconnect_attempts: 0,
  error_handler: ->(method:, returning:, exception:) { errors << [method, exception.class.name, exception.message] }
)
REDIS = Redis.new(url: "redis://127.0.0.1:#{PORT}/13")

# It may have run for as long as this has, to the second.
def ttl_near(key, seconds)
  ran = Process.clock_gettime(Process::CLOCK_MONOTONIC) - BEGAN
  REDIS.ttl("shop:#{key}").between?(seconds - ran - 1, seconds)
end

[1, 100, 9_000, 300_000, 3_000_000, 120_000_000].each do |length|
  written = CACHE.write("body/#{length}", body(length), compress: false)
  note("#{length} bytes", [written, CACHE.read("body/#{length}") == body(length), CACHE.delete("body/#{length}")])
end
note('absent', CACHE.read('absent'))
note('an object', [CACHE.write('object', { a: [1, nil, 2.5] }), CACHE.read('object') == { a: [1, nil, 2.5] }])
note('compressed', [CACHE.write('text', 'abc' * 100_000), CACHE.read('text').bytesize, REDIS.strlen('shop:text') < 10_000])
made = 0
note('fetch', Array.new(3) { CACHE.fetch('dear', expires_in: 77) { made += 1 } })
note('fetch, forced', CACHE.fetch('dear', force: true) { made += 1 })
note('ttl', [ttl_near('dear', 600), CACHE.write('short', 1, expires_in: 50), ttl_near('short', 50)])
note('ttl and race', [CACHE.write('race', 1, expires_in: 50, race_condition_ttl: 10), ttl_near('race', 350)])
note('unless_exist', [CACHE.write('once', 1, unless_exist: true), CACHE.write('once', 2, unless_exist: true), CACHE.read('once')])
note('exist?', [CACHE.exist?('once'), CACHE.exist?('never')])
note('increment', [CACHE.increment('n'), CACHE.increment('n', 5), CACHE.decrement('n', 2), CACHE.read('n', raw: true)])
note('increment with expiry', [CACHE.increment('m', 1, expires_in: 60), ttl_near('m', 60)])
note('write_multi', CACHE.write_multi({ 'a' => 1, 'b' => 'two' }, expires_in: 40).class.name)
note('read_multi', CACHE.read_multi('a', 'b', 'c'))
note('fetch_multi', CACHE.fetch_multi('a', 'c', 'd') { |key| "made #{key}" })
note('delete', [CACHE.delete('a'), CACHE.delete('a')])
note('delete_multi', CACHE.delete_multi(%w[b c nothing]))
120.times { |number| CACHE.write("user/#{number}", number) }
CACHE.delete_matched('user/1*')
note('delete_matched', [CACHE.exist?('user/1'), CACHE.exist?('user/119'), CACHE.exist?('user/2'), REDIS.keys('shop:user/*').size])
note('local cache', CACHE.with_local_cache { [CACHE.write('l', 1), CACHE.read('l'), CACHE.read('l')] })
counts = Array.new(6) { Thread.new { 25.times { CACHE.increment('count') } } }
counts.each(&:join)
note('threads', CACHE.read('count', raw: true))
REDIS.set('not ours', 1)
CACHE.clear
note('clear', REDIS.keys('*'))
REDIS.hset('shop:hash', 'f', 'v')
note('of another type', [CACHE.read('hash', raw: true), errors])
note('redis-rb', [
  REDIS.pipelined { |p| p.set('x', 1); p.incr('x') }, REDIS.multi { |t| t.incr('x'); t.get('x') },
  REDIS.eval("return redis.call('GET', KEYS[1])", keys: ['x']), REDIS.scan_each(match: 'x*').to_a,
  begin REDIS.incr('shop:hash') rescue $!.message end
])
note('lost watch', REDIS.watch('x') { Redis.new(url: "redis://127.0.0.1:#{PORT}/13").set('x', 9); REDIS.multi { |t| t.set('x', 10) } })
