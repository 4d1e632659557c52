SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
CREATE SCHEMA allready;
COMMENT ON SCHEMA allready IS 'allready: runs and their tasks';
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE allready.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE allready.commands (
    id integer NOT NULL,
    run_id character varying NOT NULL COLLATE pg_catalog."C",
    kind character varying NOT NULL,
    task text,
    created_at double precision NOT NULL,
    done_at double precision,
    refused text
);
CREATE SEQUENCE allready.commands_id_seq
    AS integer
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE allready.commands_id_seq OWNED BY allready.commands.id;
CREATE TABLE allready.events (
    run_id character varying NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    at double precision NOT NULL,
    type character varying NOT NULL,
    task text,
    attempt text,
    data text
);
CREATE TABLE allready.inputs (
    run_id character varying NOT NULL COLLATE pg_catalog."C",
    seq bigint NOT NULL,
    data text NOT NULL
);
CREATE TABLE allready.plans (
    run_id character varying NOT NULL COLLATE pg_catalog."C",
    plan text NOT NULL
);
CREATE TABLE allready.runs (
    id character varying NOT NULL COLLATE pg_catalog."C",
    status character varying NOT NULL,
    created_at double precision NOT NULL,
    started_at double precision,
    finished_at double precision,
    epoch bigint NOT NULL,
    lease_until double precision,
    owner_host character varying,
    owner_boot_id character varying,
    owner_pid bigint,
    owner_started double precision,
    last_seq bigint NOT NULL,
    last_input bigint NOT NULL,
    seed text NOT NULL,
    counts text NOT NULL,
    memory text NOT NULL,
    folder text NOT NULL,
    source text,
    options text NOT NULL,
    goal text NOT NULL,
    error text,
    answer text,
    last_batch bigint DEFAULT '0'::bigint NOT NULL
);
CREATE TABLE allready.tasks (
    run_id character varying NOT NULL COLLATE pg_catalog."C",
    index bigint NOT NULL,
    id character varying NOT NULL COLLATE pg_catalog."C",
    state character varying NOT NULL,
    attempts bigint NOT NULL,
    agent text,
    handle text,
    started_at double precision,
    finished_at double precision,
    exit_code bigint,
    memory text NOT NULL,
    title text,
    spec text NOT NULL,
    error text,
    has_data boolean NOT NULL,
    output_file text,
    output_size bigint,
    output_sha256 text,
    data text,
    output text
);
ALTER TABLE ONLY allready.commands ALTER COLUMN id SET DEFAULT nextval('allready.commands_id_seq'::regclass);
INSERT INTO allready.alembic_version VALUES ('0002');
INSERT INTO allready.commands VALUES (1, '0193a5b0-0000-7000-8000-0000000000a1', 'approve', 'plain', 1795554195.064205, 1795554195.069233, 'no such thing');
INSERT INTO allready.commands VALUES (2, '0193a5b0-0000-7000-8000-0000000000a1', 'pause', NULL, 1795554195.072541, NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 1, 1795554192.3880303, 'run.created', NULL, NULL, '{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 2, 1795554192.4162908, 'run.started', NULL, NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 3, 1795554192.4162908, 'task.ready', 'hello', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 4, 1795554192.4162908, 'task.ready', 'flaky', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 5, 1795554192.4162908, 'task.started', 'hello', '478484d1df94-1', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 6, 1795554192.4162908, 'task.started', 'flaky', '478484d1df94-2', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 7, 1795554192.4673655, 'task.completed', 'hello', '478484d1df94-1', '{"duration_ms":51}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 8, 1795554192.4673655, 'task.ready', 'data', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 9, 1795554192.467429, 'task.started', 'data', '478484d1df94-3', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 10, 1795554192.468152, 'task.retrying', 'flaky', '478484d1df94-2', '{"error":"sh exited with code 3, without any output","delay":0.846,"retry":1}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 11, 1795554192.480466, 'task.completed', 'data', '478484d1df94-3', '{"duration_ms":13}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 12, 1795554192.480466, 'task.awaiting_approval', 'gate', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 13, 1795554193.3157725, 'task.started', 'flaky', '478484d1df94-4', '{"number":2,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 14, 1795554193.3279934, 'task.failed', 'flaky', '478484d1df94-4', '{"duration_ms":12,"error":"sh exited with code 3, without any output"}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 15, 1795554193.3279934, 'task.skipped', 'after', NULL, '{"reason":"dependency ''flaky'' failed"}');
INSERT INTO allready.events VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 16, 1795554193.3280659, 'run.paused', NULL, NULL, '{"reason":"waits for approval of gate"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 1, 1795554194.6423278, 'run.created', NULL, NULL, '{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 2, 1795554194.669881, 'run.started', NULL, NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 3, 1795554194.669881, 'task.ready', 'hello', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 4, 1795554194.669881, 'task.ready', 'flaky', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 5, 1795554194.669881, 'task.started', 'hello', 'f5987129214b-1', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 6, 1795554194.669881, 'task.started', 'flaky', 'f5987129214b-2', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 7, 1795554194.703843, 'task.completed', 'hello', 'f5987129214b-1', '{"duration_ms":34}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 8, 1795554194.703843, 'task.ready', 'data', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 9, 1795554194.703901, 'task.started', 'data', 'f5987129214b-3', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 10, 1795554194.7082398, 'task.retrying', 'flaky', 'f5987129214b-2', '{"error":"sh exited with code 3, without any output","delay":0.09,"retry":1}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 11, 1795554194.7236443, 'task.completed', 'data', 'f5987129214b-3', '{"duration_ms":20}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 12, 1795554194.7236443, 'task.ready', 'gate', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 13, 1795554194.7237263, 'task.started', 'gate', 'f5987129214b-4', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 14, 1795554194.7359552, 'task.completed', 'gate', 'f5987129214b-4', '{"duration_ms":12}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 15, 1795554194.7989702, 'task.started', 'flaky', 'f5987129214b-5', '{"number":2,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 16, 1795554194.8055887, 'task.failed', 'flaky', 'f5987129214b-5', '{"duration_ms":7,"error":"sh exited with code 3, without any output"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 17, 1795554194.8055887, 'task.skipped', 'after', NULL, '{"reason":"dependency ''flaky'' failed"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 18, 1795554194.8055887, 'task.ready', 'last', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 19, 1795554194.805659, 'task.started', 'last', 'f5987129214b-6', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 20, 1795554194.811478, 'task.completed', 'last', 'f5987129214b-6', '{"duration_ms":6}');
INSERT INTO allready.events VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 21, 1795554194.8115015, 'run.completed', NULL, NULL, NULL);
INSERT INTO allready.events VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 1, 1700000002, 'a', 'plain', NULL, NULL);
INSERT INTO allready.events VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 2, 1700000003, 'b', 'plain', NULL, NULL);
INSERT INTO allready.inputs VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 1, '[["tick",1795554192.4162908],["spawn","hello","478484d1df94-1",1795554192.4162908],["spawn","flaky","478484d1df94-2",1795554192.4162908],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 2, '[["event","hello","478484d1df94-1","Completed",[],1795554192.4673655],["tick",1795554192.467429],["spawn","data","478484d1df94-3",1795554192.467429],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 3, '[["event","flaky","478484d1df94-2","Failed",["sh exited with code 3, without any output",false],1795554192.468152],["tick",1795554192.4720893],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 4, '[["event","data","478484d1df94-3","Completed",[],1795554192.480466],["tick",1795554192.4805071],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 5, '[["tick",1795554193.3157725],["spawn","flaky","478484d1df94-4",1795554193.3157725],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 6, '[["event","flaky","478484d1df94-4","Failed",["sh exited with code 3, without any output",false],1795554193.3279934],["tick",1795554193.3280659],["done","paused"],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 1, '[["tick",1795554194.669881],["spawn","hello","f5987129214b-1",1795554194.669881],["spawn","flaky","f5987129214b-2",1795554194.669881],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 2, '[["event","hello","f5987129214b-1","Completed",[],1795554194.703843],["tick",1795554194.703901],["spawn","data","f5987129214b-3",1795554194.703901],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 3, '[["event","flaky","f5987129214b-2","Failed",["sh exited with code 3, without any output",false],1795554194.7082398],["tick",1795554194.7104168],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 4, '[["event","data","f5987129214b-3","Completed",[],1795554194.7236443],["tick",1795554194.7237263],["spawn","gate","f5987129214b-4",1795554194.7237263],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 5, '[["event","gate","f5987129214b-4","Completed",[],1795554194.7359552],["tick",1795554194.7359881],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 6, '[["tick",1795554194.7989702],["spawn","flaky","f5987129214b-5",1795554194.7989702],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 7, '[["event","flaky","f5987129214b-5","Failed",["sh exited with code 3, without any output",false],1795554194.8055887],["tick",1795554194.805659],["spawn","last","f5987129214b-6",1795554194.805659],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 8, '[["event","last","f5987129214b-6","Completed",[],1795554194.811478],["tick",1795554194.8115015],["done","completed"],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 1, '[["tick",1.5]]');
INSERT INTO allready.plans VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', '{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"approval":true,"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
INSERT INTO allready.plans VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', '{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
INSERT INTO allready.plans VALUES ('0193a5b0-0000-7000-8000-0000000000a1', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}');
INSERT INTO allready.runs VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 'completed', 1795554194.627161, 1795554194.669881, 1795554194.8115015, 1, NULL, NULL, NULL, NULL, NULL, 21, 8, '3925557709', '{"completed":4,"failed":1,"skipped":1}', '{"started_at":1795554194.669881,"finished_at":1795554194.8115015,"open":false}', '@FOLDER@/.allready/runs/01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 'done.yaml', '{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":2,"timeout":null,"first_tasks":6,"agents":{}}', 'Kept from an earlier version', NULL, NULL, 8);
INSERT INTO allready.runs VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 'paused', 1795554192.352756, 1795554192.4162908, NULL, 1, NULL, NULL, NULL, NULL, NULL, 16, 6, '441421557', '{"pending":1,"awaiting_approval":1,"completed":2,"failed":1,"skipped":1}', '{"started_at":1795554192.4162908,"pause_reason":"decision","paused_at":1795554193.3280659,"open":false}', '@FOLDER@/.allready/runs/01a20f5e-abe0-70bf-bf0d-311505863878', 'paused.yaml', '{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":2,"timeout":null,"first_tasks":6,"agents":{}}', 'Kept from an earlier version', NULL, NULL, 6);
INSERT INTO allready.runs VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 'running', 1700000000.25, NULL, NULL, 1, 1795554205.057828, 'elsewhere', 'another boot', 1, 0, 2, 1, '1208925819614629174706177', '{"running":1,"completed":1}', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}', '/somewhere/0193a5b0-0000-7000-8000-0000000000a1', 'x', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end', NULL, 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end', 1);
INSERT INTO allready.tasks VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 5, 'last', 'pending', 0, NULL, NULL, NULL, NULL, NULL, '{}', NULL, '{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}', NULL, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 4, 'gate', 'completed', 1, 'command', 'f5987129214b-4', 1795554194.7237263, 1795554194.7359552, 0, '{}', NULL, '{"id":"gate","depends_on":["data"],"agent":"command"}', NULL, false, 'tasks/gate/1/output.txt', NULL, NULL, NULL, 'approved: 42');
INSERT INTO allready.tasks VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 3, 'after', 'skipped', 0, 'command', NULL, NULL, 1795554194.8055887, NULL, '{}', NULL, '{"id":"after","depends_on":["flaky"],"agent":"command"}', 'dependency ''flaky'' failed', false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 0, 'hello', 'completed', 1, 'command', '478484d1df94-1', 1795554192.4162908, 1795554192.4673655, 0, '{}', NULL, '{"id":"hello","agent":"command"}', NULL, false, 'tasks/hello/1/output.txt', NULL, NULL, NULL, 'hello world');
INSERT INTO allready.tasks VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 2, 'flaky', 'failed', 2, 'command', 'f5987129214b-5', 1795554194.7989702, 1795554194.8055887, 3, '{"retries":1}', NULL, '{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}', 'sh exited with code 3, without any output', false, 'tasks/flaky/2/output.txt', NULL, NULL, NULL, '');
INSERT INTO allready.tasks VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 4, 'gate', 'awaiting_approval', 0, 'command', NULL, NULL, NULL, NULL, '{}', NULL, '{"id":"gate","depends_on":["data"],"agent":"command","approval":true}', NULL, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 1, 'data', 'completed', 1, 'command', '478484d1df94-3', 1795554192.467429, 1795554192.480466, 0, '{}', NULL, '{"id":"data","depends_on":["hello"],"agent":"command"}', NULL, true, 'tasks/data/1/output.txt', NULL, NULL, '{"answer":42}', '');
INSERT INTO allready.tasks VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 5, 'last', 'completed', 1, 'command', 'f5987129214b-6', 1795554194.805659, 1795554194.811478, 0, '{}', NULL, '{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}', NULL, false, 'tasks/last/1/output.txt', NULL, NULL, NULL, 'end');
INSERT INTO allready.tasks VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 3, 'after', 'skipped', 0, 'command', NULL, NULL, 1795554193.3279934, NULL, '{}', NULL, '{"id":"after","depends_on":["flaky"],"agent":"command"}', 'dependency ''flaky'' failed', false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20f5e-abe0-70bf-bf0d-311505863878', 2, 'flaky', 'failed', 2, 'command', '478484d1df94-4', 1795554193.3157725, 1795554193.3279934, 3, '{"retries":1}', NULL, '{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}', 'sh exited with code 3, without any output', false, 'tasks/flaky/2/output.txt', NULL, NULL, NULL, '');
INSERT INTO allready.tasks VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 1, 'full', 'completed', 3, 'an agent', 'h', 1.25, 2.5, -9, '{"retries":2}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end', '{"id":"full"}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end', true, 'tasks/full/1/output.txt', 1099511627776, '00ff', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end');
INSERT INTO allready.tasks VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 0, 'plain', 'running', 1, NULL, 'handle-0', 1700000001.5, NULL, NULL, '{}', NULL, '{"id":"plain"}', NULL, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 0, 'hello', 'completed', 1, 'command', 'f5987129214b-1', 1795554194.669881, 1795554194.703843, 0, '{}', NULL, '{"id":"hello","agent":"command"}', NULL, false, 'tasks/hello/1/output.txt', NULL, NULL, NULL, 'hello world');
INSERT INTO allready.tasks VALUES ('01a20f5e-b4c0-76f3-b90b-d98d5d9dc9df', 1, 'data', 'completed', 1, 'command', 'f5987129214b-3', 1795554194.703901, 1795554194.7236443, 0, '{}', NULL, '{"id":"data","depends_on":["hello"],"agent":"command"}', NULL, true, 'tasks/data/1/output.txt', NULL, NULL, '{"answer":42}', '');
SELECT pg_catalog.setval('allready.commands_id_seq', 2, true);
ALTER TABLE ONLY allready.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY allready.commands
    ADD CONSTRAINT pk_commands PRIMARY KEY (id);
ALTER TABLE ONLY allready.events
    ADD CONSTRAINT pk_events PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY allready.inputs
    ADD CONSTRAINT pk_inputs PRIMARY KEY (run_id, seq);
ALTER TABLE ONLY allready.plans
    ADD CONSTRAINT pk_plans PRIMARY KEY (run_id);
ALTER TABLE ONLY allready.runs
    ADD CONSTRAINT pk_runs PRIMARY KEY (id);
ALTER TABLE ONLY allready.tasks
    ADD CONSTRAINT pk_tasks PRIMARY KEY (run_id, index);
ALTER TABLE ONLY allready.tasks
    ADD CONSTRAINT uq_tasks_run_id_id UNIQUE (run_id, id);
CREATE INDEX ix_commands_run_id ON allready.commands USING btree (run_id, id);
ALTER TABLE ONLY allready.commands
    ADD CONSTRAINT fk_commands_run_id FOREIGN KEY (run_id) REFERENCES allready.runs(id) ON DELETE CASCADE;
ALTER TABLE ONLY allready.events
    ADD CONSTRAINT fk_events_run_id FOREIGN KEY (run_id) REFERENCES allready.runs(id) ON DELETE CASCADE;
ALTER TABLE ONLY allready.inputs
    ADD CONSTRAINT fk_inputs_run_id FOREIGN KEY (run_id) REFERENCES allready.runs(id) ON DELETE CASCADE;
ALTER TABLE ONLY allready.plans
    ADD CONSTRAINT fk_plans_run_id FOREIGN KEY (run_id) REFERENCES allready.runs(id) ON DELETE CASCADE;
ALTER TABLE ONLY allready.tasks
    ADD CONSTRAINT fk_tasks_run_id FOREIGN KEY (run_id) REFERENCES allready.runs(id) ON DELETE CASCADE;
