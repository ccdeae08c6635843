# Runs in the machine of scripts/vm, whose power is cut while it works: starts a server on the
# disk, says what it has, then pushes and changes configuration and says what was acknowledged.
set -eu
mkdir -p /mnt && mount /dev/vda /mnt
export HOME=/mnt/home SAMPAN_CONFIG=/mnt/home/credentials.json GIT_AUTHOR_NAME=Ann GIT_AUTHOR_EMAIL=ann@example.com
export GIT_COMMITTER_NAME=Ann GIT_COMMITTER_EMAIL=ann@example.com
export GIT_SSH_COMMAND="ssh -i $HOME/key -o IdentitiesOnly=yes -o LogLevel=ERROR -o StrictHostKeyChecking=accept-new -o UserKnownHostsFile=/tmp/known_hosts"
mkdir -p $HOME
"$SAMPAN" serve --data /mnt/data >/tmp/hello 2>/tmp/log &
server=$!
until grep -q '^  data' /tmp/hello; do
	kill -0 $server || { cat /tmp/log; exit 1; }
	sleep 0.2
done
sleep 0.5
if code=$(grep -o 'code=.*' /tmp/hello); then
	ssh-keygen -q -t ed25519 -N '' -f $HOME/key
	echo 'correct horse ann' | "$SAMPAN" login http://localhost:3000 --setup "${code#code=}" --name ann --password-stdin --key $HOME/key.pub
	"$SAMPAN" repo create notes
	"$SAMPAN" apps create quiet --no-remote
	git init -q -b main /tmp/notes
	git -C /tmp/notes remote add origin ssh://git@localhost:2222/ann/notes.git
	git -C /tmp/notes commit -q --allow-empty -m 0
	git -C /tmp/notes push -q origin main
	"$SAMPAN" config set N=0 -a quiet >/dev/null
	sync # the credentials and the key are a client's, and not what is tested
else
	git clone -q ssh://git@localhost:2222/ann/notes.git /tmp/notes
	git -C /tmp/notes fsck --strict
fi
n=$(git -C /tmp/notes log -1 --format=%s)
echo "has push $n"
c=$("$SAMPAN" config -a quiet | sed -n 's/^N=//p')
echo "has config $c"
echo "has releases $("$SAMPAN" releases -a quiet --json | grep -c version)"
while :; do
	n=$((n + 1))
	git -C /tmp/notes commit -q --allow-empty -m $n
	git -C /tmp/notes push -q origin main && echo "acknowledged push $n"
	c=$((c + 1))
	"$SAMPAN" config set N=$c -a quiet >/dev/null && echo "acknowledged config $c"
done
