# Inside of the namespaces of deployments/try_dockerfile.py, as root: $ROOT is the image with nothing
# writable but /tmp, /dev/shm and the state folder; $ENTER goes into it as the image's user.
set -e
ip link set lo up
writable=$($ENTER sh -c 'for place in / /opt /home/mnv4serve /usr/lib; do touch $place/x 2>&- && echo $place; done; true')
test -z "$writable" || { echo "writable: $writable" >&2; exit 1; }
echo "user $($ENTER id -u), no new file anywhere but in the state folder and /tmp"
$ENTER python - <<'PYTHON'
from importlib.metadata import PackageNotFoundError, version
try:
    print("torch", version("torch"), "(for a GPU: +cpu is this machine's substitution)")
except PackageNotFoundError:
    print("no torch")
PYTHON
$ENTER $START &
server=$!
begin=$(date +%s)
until $ENTER $HEALTH 2>&-; do
  kill -0 $server 2>&- || { echo "it ended before it was healthy" >&2; exit 1; }
  test $(($(date +%s) - begin)) -lt 300 || { echo "not healthy after 300 s" >&2; exit 1; }
  sleep 1
done
echo "healthy after $(($(date +%s) - begin)) s"
$ENTER sh -c 'until wget -q -O /dev/null http://127.0.0.1:8000/readyz; do sleep 1; done'
echo "ready after $(($(date +%s) - begin)) s"
wget -q -O - --header 'Content-Type: image/jpeg' --post-file "$PICTURE" 'http://127.0.0.1:8000/classify?budget_ms=100&top_k=1'
echo
# The shell of `unshare --pid` is process 1; what it started is told to stop as Docker would.
kill -TERM $server
code=0
wait $server || code=$?
echo "ended with $code after SIGTERM"
test $code -eq 0
