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
    answer text
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
INSERT INTO allready.alembic_version VALUES ('0001');
INSERT INTO allready.commands VALUES (1, '0193a5b0-0000-7000-8000-0000000000a1', 'approve', 'plain', 1795536535.6502082, 1795536535.6931553, 'no such thing');
INSERT INTO allready.commands VALUES (2, '0193a5b0-0000-7000-8000-0000000000a1', 'pause', NULL, 1795536535.7006226, NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 1, 1795536535.16281, 'run.created', NULL, NULL, '{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 2, 1795536535.1633828, 'run.started', NULL, NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 3, 1795536535.1633828, 'task.ready', 'hello', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 4, 1795536535.1633828, 'task.ready', 'flaky', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 5, 1795536535.1633828, 'task.started', 'hello', 'ec565799b328-1', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 6, 1795536535.1633828, 'task.started', 'flaky', 'ec565799b328-2', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 7, 1795536535.2601264, 'task.retrying', 'flaky', 'ec565799b328-2', '{"error":"sh exited with code 3, without any output","delay":0.037,"retry":1}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 8, 1795536535.2611704, 'task.completed', 'hello', 'ec565799b328-1', '{"duration_ms":98}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 9, 1795536535.2611704, 'task.ready', 'data', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 10, 1795536535.266975, 'task.started', 'data', 'ec565799b328-3', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 11, 1795536535.2790396, 'task.completed', 'data', 'ec565799b328-3', '{"duration_ms":12}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 12, 1795536535.2790396, 'task.awaiting_approval', 'gate', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 13, 1795536535.2986004, 'task.started', 'flaky', 'ec565799b328-4', '{"number":2,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 14, 1795536535.325695, 'task.failed', 'flaky', 'ec565799b328-4', '{"duration_ms":27,"error":"sh exited with code 3, without any output"}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 15, 1795536535.325695, 'task.skipped', 'after', NULL, '{"reason":"dependency ''flaky'' failed"}');
INSERT INTO allready.events VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 16, 1795536535.3257694, 'run.paused', NULL, NULL, '{"reason":"waits for approval of gate"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 1, 1795536535.343136, 'run.created', NULL, NULL, '{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 2, 1795536535.3474362, 'run.started', NULL, NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 3, 1795536535.3474362, 'task.ready', 'hello', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 4, 1795536535.3474362, 'task.ready', 'flaky', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 5, 1795536535.3474362, 'task.started', 'hello', '35ad6a0ba9e3-1', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 6, 1795536535.3474362, 'task.started', 'flaky', '35ad6a0ba9e3-2', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 7, 1795536535.3731925, 'task.completed', 'hello', '35ad6a0ba9e3-1', '{"duration_ms":26}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 8, 1795536535.3731925, 'task.ready', 'data', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 9, 1795536535.3732388, 'task.started', 'data', '35ad6a0ba9e3-3', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 10, 1795536535.379824, 'task.retrying', 'flaky', '35ad6a0ba9e3-2', '{"error":"sh exited with code 3, without any output","delay":0.13,"retry":1}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 11, 1795536535.403898, 'task.completed', 'data', '35ad6a0ba9e3-3', '{"duration_ms":31}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 12, 1795536535.403898, 'task.ready', 'gate', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 13, 1795536535.403939, 'task.started', 'gate', '35ad6a0ba9e3-4', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 14, 1795536535.4324615, 'task.completed', 'gate', '35ad6a0ba9e3-4', '{"duration_ms":29}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 15, 1795536535.5122917, 'task.started', 'flaky', '35ad6a0ba9e3-5', '{"number":2,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 16, 1795536535.5373876, 'task.failed', 'flaky', '35ad6a0ba9e3-5', '{"duration_ms":25,"error":"sh exited with code 3, without any output"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 17, 1795536535.5373876, 'task.skipped', 'after', NULL, '{"reason":"dependency ''flaky'' failed"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 18, 1795536535.5373876, 'task.ready', 'last', NULL, NULL);
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 19, 1795536535.5374622, 'task.started', 'last', '35ad6a0ba9e3-6', '{"number":1,"agent":"command"}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 20, 1795536535.5783606, 'task.completed', 'last', '35ad6a0ba9e3-6', '{"duration_ms":41}');
INSERT INTO allready.events VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 21, 1795536535.5783951, 'run.completed', NULL, NULL, NULL);
INSERT INTO allready.events VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 1, 1700000002, 'a', 'plain', NULL, NULL);
INSERT INTO allready.events VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 2, 1700000003, 'b', 'plain', NULL, NULL);
INSERT INTO allready.inputs VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 1, '[["tick",1795536535.1633828],["spawn","hello","ec565799b328-1",1795536535.1633828],["spawn","flaky","ec565799b328-2",1795536535.1633828],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 2, '[["event","flaky","ec565799b328-2","Failed",["sh exited with code 3, without any output",false],1795536535.2601264],["tick",1795536535.2602372],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 3, '[["event","hello","ec565799b328-1","Completed",[],1795536535.2611704],["tick",1795536535.266975],["spawn","data","ec565799b328-3",1795536535.266975],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 4, '[["event","data","ec565799b328-3","Completed",[],1795536535.2790396],["tick",1795536535.2790785],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 5, '[["tick",1795536535.2986004],["spawn","flaky","ec565799b328-4",1795536535.2986004],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 6, '[["event","flaky","ec565799b328-4","Failed",["sh exited with code 3, without any output",false],1795536535.325695],["tick",1795536535.3257694],["done","paused"],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 1, '[["tick",1795536535.3474362],["spawn","hello","35ad6a0ba9e3-1",1795536535.3474362],["spawn","flaky","35ad6a0ba9e3-2",1795536535.3474362],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 2, '[["event","hello","35ad6a0ba9e3-1","Completed",[],1795536535.3731925],["tick",1795536535.3732388],["spawn","data","35ad6a0ba9e3-3",1795536535.3732388],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 3, '[["event","flaky","35ad6a0ba9e3-2","Failed",["sh exited with code 3, without any output",false],1795536535.379824],["tick",1795536535.388328],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 4, '[["event","data","35ad6a0ba9e3-3","Completed",[],1795536535.403898],["tick",1795536535.403939],["spawn","gate","35ad6a0ba9e3-4",1795536535.403939],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 5, '[["event","gate","35ad6a0ba9e3-4","Completed",[],1795536535.4324615],["tick",1795536535.4324968],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 6, '[["tick",1795536535.5122917],["spawn","flaky","35ad6a0ba9e3-5",1795536535.5122917],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 7, '[["event","flaky","35ad6a0ba9e3-5","Failed",["sh exited with code 3, without any output",false],1795536535.5373876],["tick",1795536535.5374622],["spawn","last","35ad6a0ba9e3-6",1795536535.5374622],["backoff",true,false]]');
INSERT INTO allready.inputs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 8, '[["event","last","35ad6a0ba9e3-6","Completed",[],1795536535.5783606],["tick",1795536535.5783951],["done","completed"],["backoff",false,false]]');
INSERT INTO allready.inputs VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 1, '[["tick",1.5]]');
INSERT INTO allready.plans VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', '{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"approval":true,"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
INSERT INTO allready.plans VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', '{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
INSERT INTO allready.plans VALUES ('0193a5b0-0000-7000-8000-0000000000a1', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}');
INSERT INTO allready.runs VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 'completed', 1795536535.3349807, 1795536535.3474362, 1795536535.5783951, 1, NULL, NULL, NULL, NULL, NULL, 21, 8, '2', '{"completed":4,"failed":1,"skipped":1}', '{"started_at":1795536535.3474362,"finished_at":1795536535.5783951,"open":false}', '@FOLDER@/.allready/runs/01a20e51-3f26-7743-9802-f08de422f8d5', '@FOLDER@/whole.yaml', '{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":null,"timeout":null,"first_tasks":6,"agents":{}}', 'Kept from an earlier version', NULL, NULL);
INSERT INTO allready.runs VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 'paused', 1795536535.071436, 1795536535.1633828, NULL, 1, NULL, NULL, NULL, NULL, NULL, 16, 6, '1', '{"pending":1,"awaiting_approval":1,"completed":2,"failed":1,"skipped":1}', '{"started_at":1795536535.1633828,"pause_reason":"decision","paused_at":1795536535.3257694,"open":false}', '@FOLDER@/.allready/runs/01a20e51-3e14-7037-8c98-a15a21de0915', '@FOLDER@/plan.yaml', '{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":null,"timeout":null,"first_tasks":6,"agents":{}}', 'Kept from an earlier version', NULL, NULL);
INSERT INTO allready.runs VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 'running', 1700000000.25, NULL, NULL, 1, 1795536545.6367536, 'elsewhere', 'another boot', 1, 0, 2, 1, '1208925819614629174706177', '{"running":1,"completed":1}', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}', '/somewhere/0193a5b0-0000-7000-8000-0000000000a1', 'x', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end', NULL, 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end');
INSERT INTO allready.tasks VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 5, 'last', 'pending', 0, NULL, NULL, NULL, NULL, NULL, '{}', NULL, '{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}', NULL, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 4, 'gate', 'completed', 1, 'command', '35ad6a0ba9e3-4', 1795536535.403939, 1795536535.4324615, 0, '{}', NULL, '{"id":"gate","depends_on":["data"],"agent":"command"}', NULL, false, 'tasks/gate/1/output.txt', NULL, NULL, NULL, 'approved: 42');
INSERT INTO allready.tasks VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 3, 'after', 'skipped', 0, 'command', NULL, NULL, 1795536535.5373876, NULL, '{}', NULL, '{"id":"after","depends_on":["flaky"],"agent":"command"}', 'dependency ''flaky'' failed', false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 0, 'hello', 'completed', 1, 'command', 'ec565799b328-1', 1795536535.1633828, 1795536535.2611704, 0, '{}', NULL, '{"id":"hello","agent":"command"}', NULL, false, 'tasks/hello/1/output.txt', NULL, NULL, NULL, 'hello world');
INSERT INTO allready.tasks VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 2, 'flaky', 'failed', 2, 'command', '35ad6a0ba9e3-5', 1795536535.5122917, 1795536535.5373876, 3, '{"retries":1}', NULL, '{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}', 'sh exited with code 3, without any output', false, 'tasks/flaky/2/output.txt', NULL, NULL, NULL, '');
INSERT INTO allready.tasks VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 4, 'gate', 'awaiting_approval', 0, 'command', NULL, NULL, NULL, NULL, '{}', NULL, '{"id":"gate","depends_on":["data"],"agent":"command","approval":true}', NULL, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 1, 'data', 'completed', 1, 'command', 'ec565799b328-3', 1795536535.266975, 1795536535.2790396, 0, '{}', NULL, '{"id":"data","depends_on":["hello"],"agent":"command"}', NULL, true, 'tasks/data/1/output.txt', NULL, NULL, '{"answer":42}', '');
INSERT INTO allready.tasks VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 5, 'last', 'completed', 1, 'command', '35ad6a0ba9e3-6', 1795536535.5374622, 1795536535.5783606, 0, '{}', NULL, '{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}', NULL, false, 'tasks/last/1/output.txt', NULL, NULL, NULL, 'end');
INSERT INTO allready.tasks VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 3, 'after', 'skipped', 0, 'command', NULL, NULL, 1795536535.325695, NULL, '{}', NULL, '{"id":"after","depends_on":["flaky"],"agent":"command"}', 'dependency ''flaky'' failed', false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20e51-3e14-7037-8c98-a15a21de0915', 2, 'flaky', 'failed', 2, 'command', 'ec565799b328-4', 1795536535.2986004, 1795536535.325695, 3, '{"retries":1}', NULL, '{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}', 'sh exited with code 3, without any output', false, 'tasks/flaky/2/output.txt', NULL, NULL, NULL, '');
INSERT INTO allready.tasks VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 1, 'full', 'completed', 3, 'an agent', 'h', 1.25, 2.5, -9, '{"retries":2}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end', '{"id":"full"}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end', true, 'tasks/full/1/output.txt', 1099511627776, '00ff', '{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}', 'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end');
INSERT INTO allready.tasks VALUES ('0193a5b0-0000-7000-8000-0000000000a1', 0, 'plain', 'running', 1, NULL, 'handle-0', 1700000001.5, NULL, NULL, '{}', NULL, '{"id":"plain"}', NULL, false, NULL, NULL, NULL, NULL, NULL);
INSERT INTO allready.tasks VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 0, 'hello', 'completed', 1, 'command', '35ad6a0ba9e3-1', 1795536535.3474362, 1795536535.3731925, 0, '{}', NULL, '{"id":"hello","agent":"command"}', NULL, false, 'tasks/hello/1/output.txt', NULL, NULL, NULL, 'hello world');
INSERT INTO allready.tasks VALUES ('01a20e51-3f26-7743-9802-f08de422f8d5', 1, 'data', 'completed', 1, 'command', '35ad6a0ba9e3-3', 1795536535.3732388, 1795536535.403898, 0, '{}', NULL, '{"id":"data","depends_on":["hello"],"agent":"command"}', NULL, true, 'tasks/data/1/output.txt', NULL, NULL, '{"answer":42}', '');
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
