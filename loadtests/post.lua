-- wrk's script: post one photo again and again, print what happened on one line at the end.
local photo = assert(io.open(assert(os.getenv("PHOTO"), "PHOTO names no file"), "rb"))
wrk.method = "POST"
wrk.body = photo:read("*a")
wrk.headers["Content-Type"] = "image/jpeg"
photo:close()

function done(summary, latency)
   local e = summary.errors
   local failed = e.connect + e.read + e.write + e.status + e.timeout
   io.write(string.format("RESULT %d %d %d %.3f %.3f\n", summary.requests, failed,
      summary.duration, latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
