-- wrk's script: post one body again and again, print what happened on one line at the end.
local body = assert(io.open(assert(os.getenv("BODY"), "BODY names no file"), "rb"))
wrk.method = "POST"
wrk.body = body:read("*a")
body:close()
for name, value in (os.getenv("HEADERS") or ""):gmatch("([^:\n]+): ([^\n]+)") do
   wrk.headers[name] = value
end

function done(summary, latency)
   local e = summary.errors
   local failed = e.connect + e.read + e.write + e.status + e.timeout
   io.write(string.format("RESULT %d %d %d %.3f %.3f\n", summary.requests, failed,
      summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
