BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE commands (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	run_id VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	task TEXT, 
	created_at DOUBLE NOT NULL, 
	done_at DOUBLE, 
	refused TEXT, 
	CONSTRAINT fk_commands_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "commands" VALUES(1,'0193a5b0-0000-7000-8000-0000000000a1','approve','plain',1.79555378378689146044e+09,1.79555378379703688617e+09,'no such thing');
INSERT INTO "commands" VALUES(2,'0193a5b0-0000-7000-8000-0000000000a1','pause',NULL,1.79555378381311798096e+09,NULL,NULL);
CREATE TABLE events (
	run_id VARCHAR NOT NULL, 
	seq BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	type VARCHAR NOT NULL, 
	task TEXT, 
	attempt TEXT, 
	data TEXT, 
	CONSTRAINT pk_events PRIMARY KEY (run_id, seq), 
	CONSTRAINT fk_events_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "events" VALUES('0193a5b0-0000-7000-8000-0000000000a1',1,1700000002.0,'a','plain',NULL,NULL);
INSERT INTO "events" VALUES('0193a5b0-0000-7000-8000-0000000000a1',2,1700000003.0,'b','plain',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',1,1.79555378073251914981e+09,'run.created',NULL,NULL,'{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',2,1.79555378077540254595e+09,'run.started',NULL,NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',3,1.79555378077540254595e+09,'task.ready','hello',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',4,1.79555378077540254595e+09,'task.ready','flaky',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',5,1.79555378077540254595e+09,'task.started','hello','e1bf03a4ad2a-1','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',6,1.79555378077540254595e+09,'task.started','flaky','e1bf03a4ad2a-2','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',7,1.79555378083594179157e+09,'task.retrying','flaky','e1bf03a4ad2a-2','{"error":"sh exited with code 3, without any output","delay":0.01,"retry":1}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',8,1.79555378084858727454e+09,'task.completed','hello','e1bf03a4ad2a-1','{"duration_ms":73}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',9,1.79555378084858727454e+09,'task.ready','data',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',10,1.79555378084919309614e+09,'task.started','data','e1bf03a4ad2a-3','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',11,1.79555378084919309614e+09,'task.started','flaky','e1bf03a4ad2a-4','{"number":2,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',12,1.79555378090027022361e+09,'task.completed','data','e1bf03a4ad2a-3','{"duration_ms":51}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',13,1.79555378090027022361e+09,'task.awaiting_approval','gate',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',14,1.79555378090036773684e+09,'task.failed','flaky','e1bf03a4ad2a-4','{"duration_ms":51,"error":"sh exited with code 3, without any output"}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',15,1.79555378090036773684e+09,'task.skipped','after',NULL,'{"reason":"dependency ''flaky'' failed"}');
INSERT INTO "events" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',16,1.79555378090046691887e+09,'run.paused',NULL,NULL,'{"reason":"waits for approval of gate"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',1,1.79555378255221390719e+09,'run.created',NULL,NULL,'{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',2,1.79555378258776426316e+09,'run.started',NULL,NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',3,1.79555378258776426316e+09,'task.ready','hello',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',4,1.79555378258776426316e+09,'task.ready','flaky',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',5,1.79555378258776426316e+09,'task.started','hello','da05853d455f-1','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',6,1.79555378258776426316e+09,'task.started','flaky','da05853d455f-2','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',7,1.79555378262484192841e+09,'task.retrying','flaky','da05853d455f-2','{"error":"sh exited with code 3, without any output","delay":0.915,"retry":1}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',8,1.7955537826319689751e+09,'task.completed','hello','da05853d455f-1','{"duration_ms":44}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',9,1.7955537826319689751e+09,'task.ready','data',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',10,1.79555378263214254382e+09,'task.started','data','da05853d455f-3','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',11,1.79555378264549756047e+09,'task.completed','data','da05853d455f-3','{"duration_ms":13}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',12,1.79555378264549756047e+09,'task.ready','gate',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',13,1.79555378264556336409e+09,'task.started','gate','da05853d455f-4','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',14,1.7955537826654782295e+09,'task.completed','gate','da05853d455f-4','{"duration_ms":20}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',15,1795553783.54137,'task.started','flaky','da05853d455f-5','{"number":2,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',16,1.79555378356220793727e+09,'task.failed','flaky','da05853d455f-5','{"duration_ms":21,"error":"sh exited with code 3, without any output"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',17,1.79555378356220793727e+09,'task.skipped','after',NULL,'{"reason":"dependency ''flaky'' failed"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',18,1.79555378356220793727e+09,'task.ready','last',NULL,NULL);
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',19,1.79555378356231665616e+09,'task.started','last','da05853d455f-6','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',20,1.795553783573939085e+09,'task.completed','last','da05853d455f-6','{"duration_ms":12}');
INSERT INTO "events" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',21,1.79555378357398104666e+09,'run.completed',NULL,NULL,NULL);
CREATE TABLE inputs (
	run_id VARCHAR NOT NULL, 
	seq BIGINT NOT NULL, 
	data TEXT NOT NULL, 
	CONSTRAINT pk_inputs PRIMARY KEY (run_id, seq), 
	CONSTRAINT fk_inputs_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
)
 WITHOUT ROWID

;
INSERT INTO "inputs" VALUES('0193a5b0-0000-7000-8000-0000000000a1',1,'[["tick",1.5]]');
INSERT INTO "inputs" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',1,'[["tick",1795553780.7754025],["spawn","hello","e1bf03a4ad2a-1",1795553780.7754025],["spawn","flaky","e1bf03a4ad2a-2",1795553780.7754025],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',2,'[["event","flaky","e1bf03a4ad2a-2","Failed",["sh exited with code 3, without any output",false],1795553780.8359418],["tick",1795553780.843243],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',3,'[["event","hello","e1bf03a4ad2a-1","Completed",[],1795553780.8485873],["tick",1795553780.849193],["spawn","data","e1bf03a4ad2a-3",1795553780.849193],["spawn","flaky","e1bf03a4ad2a-4",1795553780.849193],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',4,'[["event","data","e1bf03a4ad2a-3","Completed",[],1795553780.9002702],["event","flaky","e1bf03a4ad2a-4","Failed",["sh exited with code 3, without any output",false],1795553780.9003677],["tick",1795553780.900467],["done","paused"],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',1,'[["tick",1795553782.5877643],["spawn","hello","da05853d455f-1",1795553782.5877643],["spawn","flaky","da05853d455f-2",1795553782.5877643],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',2,'[["event","flaky","da05853d455f-2","Failed",["sh exited with code 3, without any output",false],1795553782.624842],["tick",1795553782.6249208],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',3,'[["event","hello","da05853d455f-1","Completed",[],1795553782.631969],["tick",1795553782.6321425],["spawn","data","da05853d455f-3",1795553782.6321425],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',4,'[["event","data","da05853d455f-3","Completed",[],1795553782.6454976],["tick",1795553782.6455634],["spawn","gate","da05853d455f-4",1795553782.6455634],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',5,'[["event","gate","da05853d455f-4","Completed",[],1795553782.6654782],["tick",1795553782.6655364],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',6,'[["tick",1795553783.54137],["spawn","flaky","da05853d455f-5",1795553783.54137],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',7,'[["event","flaky","da05853d455f-5","Failed",["sh exited with code 3, without any output",false],1795553783.562208],["tick",1795553783.5623167],["spawn","last","da05853d455f-6",1795553783.5623167],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',8,'[["event","last","da05853d455f-6","Completed",[],1795553783.573939],["tick",1795553783.573981],["done","completed"],["backoff",false,false]]');
CREATE TABLE plans (
	run_id VARCHAR NOT NULL, 
	"plan" TEXT NOT NULL, 
	CONSTRAINT pk_plans PRIMARY KEY (run_id), 
	CONSTRAINT fk_plans_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "plans" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834','{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"approval":true,"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
INSERT INTO "plans" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658','{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
INSERT INTO "plans" VALUES('0193a5b0-0000-7000-8000-0000000000a1','{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}');
CREATE TABLE runs (
	id VARCHAR NOT NULL, 
	status VARCHAR NOT NULL, 
	created_at DOUBLE NOT NULL, 
	started_at DOUBLE, 
	finished_at DOUBLE, 
	epoch BIGINT NOT NULL, 
	lease_until DOUBLE, 
	owner_host VARCHAR, 
	owner_boot_id VARCHAR, 
	owner_pid BIGINT, 
	owner_started DOUBLE, 
	last_seq BIGINT NOT NULL, 
	last_input BIGINT NOT NULL, 
	seed TEXT NOT NULL, 
	counts TEXT NOT NULL, 
	memory TEXT NOT NULL, 
	folder TEXT NOT NULL, 
	source TEXT, 
	options TEXT NOT NULL, 
	goal TEXT NOT NULL, 
	error TEXT, 
	answer TEXT, last_batch BIGINT DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_runs PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834','paused',1.79555378070367193223e+09,1.79555378077540254595e+09,NULL,1,NULL,NULL,NULL,NULL,NULL,16,4,'369505181','{"pending":1,"awaiting_approval":1,"completed":2,"failed":1,"skipped":1}','{"started_at":1795553780.7754025,"pause_reason":"decision","paused_at":1795553780.900467,"open":false}','@FOLDER@/runs/01a20f58-63d8-76b7-9fc9-dccf4210c834','paused.yaml','{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":2,"timeout":null,"first_tasks":6,"agents":{}}','Kept from an earlier version',NULL,NULL,4);
INSERT INTO "runs" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658','completed',1.79555378250766873356e+09,1.79555378258776426316e+09,1.79555378357398104666e+09,1,NULL,NULL,NULL,NULL,NULL,21,8,'34758689','{"completed":4,"failed":1,"skipped":1}','{"started_at":1795553782.5877643,"finished_at":1795553783.573981,"open":false}','@FOLDER@/runs/01a20f58-6ae4-7121-bbda-746bf2750658','done.yaml','{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":2,"timeout":null,"first_tasks":6,"agents":{}}','Kept from an earlier version',NULL,NULL,8);
INSERT INTO "runs" VALUES('0193a5b0-0000-7000-8000-0000000000a1','running',1700000000.25,NULL,NULL,1,1.79555379377735829351e+09,'elsewhere','another boot',1,0.0,2,1,'1208925819614629174706177','{"running":1,"completed":1}','{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}','/somewhere/0193a5b0-0000-7000-8000-0000000000a1','x','{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end',NULL,'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end',1);
CREATE TABLE tasks (
	run_id VARCHAR NOT NULL, 
	"index" BIGINT NOT NULL, 
	id VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	attempts BIGINT NOT NULL, 
	agent TEXT, 
	handle TEXT, 
	started_at DOUBLE, 
	finished_at DOUBLE, 
	exit_code BIGINT, 
	memory TEXT NOT NULL, 
	title TEXT, 
	spec TEXT NOT NULL, 
	error TEXT, 
	has_data BOOLEAN NOT NULL, 
	output_file TEXT, 
	output_size BIGINT, 
	output_sha256 TEXT, 
	data TEXT, 
	output TEXT, 
	CONSTRAINT pk_tasks PRIMARY KEY (run_id, "index"), 
	CONSTRAINT uq_tasks_run_id_id UNIQUE (run_id, id), 
	CONSTRAINT fk_tasks_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "tasks" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',0,'hello','completed',1,'command','e1bf03a4ad2a-1',1.79555378077540254595e+09,1.79555378084858727454e+09,0,'{}',NULL,'{"id":"hello","agent":"command"}',NULL,0,'tasks/hello/1/output.txt',NULL,NULL,NULL,'hello world');
INSERT INTO "tasks" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',1,'data','completed',1,'command','e1bf03a4ad2a-3',1.79555378084919309614e+09,1.79555378090027022361e+09,0,'{}',NULL,'{"id":"data","depends_on":["hello"],"agent":"command"}',NULL,1,'tasks/data/1/output.txt',NULL,NULL,'{"answer":42}','');
INSERT INTO "tasks" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',2,'flaky','failed',2,'command','e1bf03a4ad2a-4',1.79555378084919309614e+09,1.79555378090036773684e+09,3,'{"retries":1}',NULL,'{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}','sh exited with code 3, without any output',0,'tasks/flaky/2/output.txt',NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',3,'after','skipped',0,'command',NULL,NULL,1.79555378090036773684e+09,NULL,'{}',NULL,'{"id":"after","depends_on":["flaky"],"agent":"command"}','dependency ''flaky'' failed',0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',4,'gate','awaiting_approval',0,'command',NULL,NULL,NULL,NULL,'{}',NULL,'{"id":"gate","depends_on":["data"],"agent":"command","approval":true}',NULL,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20f58-63d8-76b7-9fc9-dccf4210c834',5,'last','pending',0,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}',NULL,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',0,'hello','completed',1,'command','da05853d455f-1',1.79555378258776426316e+09,1.7955537826319689751e+09,0,'{}',NULL,'{"id":"hello","agent":"command"}',NULL,0,'tasks/hello/1/output.txt',NULL,NULL,NULL,'hello world');
INSERT INTO "tasks" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',1,'data','completed',1,'command','da05853d455f-3',1.79555378263214254382e+09,1.79555378264549756047e+09,0,'{}',NULL,'{"id":"data","depends_on":["hello"],"agent":"command"}',NULL,1,'tasks/data/1/output.txt',NULL,NULL,'{"answer":42}','');
INSERT INTO "tasks" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',2,'flaky','failed',2,'command','da05853d455f-5',1795553783.54137,1.79555378356220793727e+09,3,'{"retries":1}',NULL,'{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}','sh exited with code 3, without any output',0,'tasks/flaky/2/output.txt',NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',3,'after','skipped',0,'command',NULL,NULL,1.79555378356220793727e+09,NULL,'{}',NULL,'{"id":"after","depends_on":["flaky"],"agent":"command"}','dependency ''flaky'' failed',0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',4,'gate','completed',1,'command','da05853d455f-4',1.79555378264556336409e+09,1.7955537826654782295e+09,0,'{}',NULL,'{"id":"gate","depends_on":["data"],"agent":"command"}',NULL,0,'tasks/gate/1/output.txt',NULL,NULL,NULL,'approved: 42');
INSERT INTO "tasks" VALUES('01a20f58-6ae4-7121-bbda-746bf2750658',5,'last','completed',1,'command','da05853d455f-6',1.79555378356231665616e+09,1.795553783573939085e+09,0,'{}',NULL,'{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}',NULL,0,'tasks/last/1/output.txt',NULL,NULL,NULL,'end');
INSERT INTO "tasks" VALUES('0193a5b0-0000-7000-8000-0000000000a1',0,'plain','running',1,NULL,'handle-0',1700000001.5,NULL,NULL,'{}',NULL,'{"id":"plain"}',NULL,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('0193a5b0-0000-7000-8000-0000000000a1',1,'full','completed',3,'an agent','h',1.25,2.5,-9,'{"retries":2}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end','{"id":"full"}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end',1,'tasks/full/1/output.txt',1099511627776,'00ff','{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end');
CREATE INDEX ix_commands_run_id ON commands (run_id, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('commands',2);
COMMIT;
