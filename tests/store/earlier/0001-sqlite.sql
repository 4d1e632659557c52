BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0001');
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
INSERT INTO "commands" VALUES(1,'0193a5b0-0000-7000-8000-0000000000a1','approve','plain',1.79553653017625737195e+09,1.79553653018832111354e+09,'no such thing');
INSERT INTO "commands" VALUES(2,'0193a5b0-0000-7000-8000-0000000000a1','pause',NULL,1.79553653019548606871e+09,NULL,NULL);
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
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',1,1.79553652938808536534e+09,'run.created',NULL,NULL,'{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',2,1.79553652939257287974e+09,'run.started',NULL,NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',3,1.79553652939257287974e+09,'task.ready','hello',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',4,1.79553652939257287974e+09,'task.ready','flaky',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',5,1.79553652939257287974e+09,'task.started','hello','ddc57dca0385-1','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',6,1.79553652939257287974e+09,'task.started','flaky','ddc57dca0385-2','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',7,1.79553652952415943142e+09,'task.completed','hello','ddc57dca0385-1','{"duration_ms":132}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',8,1.79553652952415943142e+09,'task.ready','data',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',9,1.79553652952423453336e+09,'task.started','data','ddc57dca0385-3','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',10,1.79553652960801482206e+09,'task.retrying','flaky','ddc57dca0385-2','{"error":"sh exited with code 3, without any output","delay":0.037,"retry":1}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',11,1.79553652963226032263e+09,'task.completed','data','ddc57dca0385-3','{"duration_ms":108}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',12,1.79553652963226032263e+09,'task.awaiting_approval','gate',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',13,1.79553652965592646598e+09,'task.started','flaky','ddc57dca0385-4','{"number":2,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',14,1.79553652974443364144e+09,'task.failed','flaky','ddc57dca0385-4','{"duration_ms":89,"error":"sh exited with code 3, without any output"}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',15,1.79553652974443364144e+09,'task.skipped','after',NULL,'{"reason":"dependency ''flaky'' failed"}');
INSERT INTO "events" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',16,1.79553652974451875682e+09,'run.paused',NULL,NULL,'{"reason":"waits for approval of gate"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',1,1.79553652980799627303e+09,'run.created',NULL,NULL,'{"goal":"Kept from an earlier version","tasks":6,"max_parallel":2}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',2,1.79553652980845379833e+09,'run.started',NULL,NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',3,1.79553652980845379833e+09,'task.ready','hello',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',4,1.79553652980845379833e+09,'task.ready','flaky',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',5,1.79553652980845379833e+09,'task.started','hello','a57d58b3630e-1','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',6,1.79553652980845379833e+09,'task.started','flaky','a57d58b3630e-2','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',7,1.79553652985582876209e+09,'task.completed','hello','a57d58b3630e-1','{"duration_ms":47}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',8,1.79553652985582876209e+09,'task.ready','data',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',9,1.79553652985589742656e+09,'task.started','data','a57d58b3630e-3','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',10,1.79553652987453079225e+09,'task.retrying','flaky','a57d58b3630e-2','{"error":"sh exited with code 3, without any output","delay":0.13,"retry":1}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',11,1.79553652988940167425e+09,'task.completed','data','a57d58b3630e-3','{"duration_ms":34}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',12,1.79553652988940167425e+09,'task.ready','gate',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',13,1.79553652990801477433e+09,'task.started','gate','a57d58b3630e-4','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',14,1.79553652996135377885e+09,'task.completed','gate','a57d58b3630e-4','{"duration_ms":53}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',15,1.79553653000612521177e+09,'task.started','flaky','a57d58b3630e-5','{"number":2,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',16,1.79553653005281281477e+09,'task.failed','flaky','a57d58b3630e-5','{"duration_ms":47,"error":"sh exited with code 3, without any output"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',17,1.79553653005281281477e+09,'task.skipped','after',NULL,'{"reason":"dependency ''flaky'' failed"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',18,1.79553653005281281477e+09,'task.ready','last',NULL,NULL);
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',19,1.79553653005289626121e+09,'task.started','last','a57d58b3630e-6','{"number":1,"agent":"command"}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',20,1.79553653013389730459e+09,'task.completed','last','a57d58b3630e-6','{"duration_ms":81}');
INSERT INTO "events" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',21,1795536530.13394,'run.completed',NULL,NULL,NULL);
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
INSERT INTO "inputs" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',1,'[["tick",1795536529.3925729],["spawn","hello","ddc57dca0385-1",1795536529.3925729],["spawn","flaky","ddc57dca0385-2",1795536529.3925729],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',2,'[["event","hello","ddc57dca0385-1","Completed",[],1795536529.5241594],["tick",1795536529.5242345],["spawn","data","ddc57dca0385-3",1795536529.5242345],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',3,'[["event","flaky","ddc57dca0385-2","Failed",["sh exited with code 3, without any output",false],1795536529.6080148],["tick",1795536529.6080995],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',4,'[["event","data","ddc57dca0385-3","Completed",[],1795536529.6322603],["tick",1795536529.632323],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',5,'[["tick",1795536529.6559265],["spawn","flaky","ddc57dca0385-4",1795536529.6559265],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',6,'[["event","flaky","ddc57dca0385-4","Failed",["sh exited with code 3, without any output",false],1795536529.7444336],["tick",1795536529.7445188],["done","paused"],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',1,'[["tick",1795536529.8084538],["spawn","hello","a57d58b3630e-1",1795536529.8084538],["spawn","flaky","a57d58b3630e-2",1795536529.8084538],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',2,'[["event","hello","a57d58b3630e-1","Completed",[],1795536529.8558288],["tick",1795536529.8558974],["spawn","data","a57d58b3630e-3",1795536529.8558974],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',3,'[["event","flaky","a57d58b3630e-2","Failed",["sh exited with code 3, without any output",false],1795536529.8745308],["tick",1795536529.8745968],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',4,'[["event","data","a57d58b3630e-3","Completed",[],1795536529.8894017],["tick",1795536529.9080148],["spawn","gate","a57d58b3630e-4",1795536529.9080148],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',5,'[["event","gate","a57d58b3630e-4","Completed",[],1795536529.9613538],["tick",1795536529.9614143],["backoff",false,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',6,'[["tick",1795536530.0061252],["spawn","flaky","a57d58b3630e-5",1795536530.0061252],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',7,'[["event","flaky","a57d58b3630e-5","Failed",["sh exited with code 3, without any output",false],1795536530.0528128],["tick",1795536530.0528963],["spawn","last","a57d58b3630e-6",1795536530.0528963],["backoff",true,false]]');
INSERT INTO "inputs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',8,'[["event","last","a57d58b3630e-6","Completed",[],1795536530.1338973],["tick",1795536530.13394],["done","completed"],["backoff",false,false]]');
CREATE TABLE plans (
	run_id VARCHAR NOT NULL, 
	"plan" TEXT NOT NULL, 
	CONSTRAINT pk_plans PRIMARY KEY (run_id), 
	CONSTRAINT fk_plans_run_id FOREIGN KEY(run_id) REFERENCES runs (id) ON DELETE CASCADE
);
INSERT INTO "plans" VALUES('01a20e51-264b-7368-808a-ecbccaad6480','{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"approval":true,"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
INSERT INTO "plans" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827','{"goal":"Kept from an earlier version","max_parallel":2,"vars":{"name":"world"},"tasks":[{"id":"hello","run":["echo","hello {{ name }}"]},{"id":"data","run":["sh","-c","echo \"{\\\"answer\\\": 42}\" > \"$ALLREADY_OUTPUT\""],"depends_on":["hello"]},{"id":"flaky","run":["sh","-c","exit 3"],"max_retries":1,"failure_strategy":"skip"},{"id":"after","run":["echo","never"],"depends_on":["flaky"]},{"id":"gate","run":["echo","approved: {{ data.data.answer }}"],"depends_on":["data"]},{"id":"last","run":["echo","end"],"depends_on":["gate","flaky"],"run_if":"all_done"}]}');
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
	answer TEXT, 
	CONSTRAINT pk_runs PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('01a20e51-264b-7368-808a-ecbccaad6480','paused',1.79553652898155546185e+09,1.79553652939257287974e+09,NULL,1,NULL,NULL,NULL,NULL,NULL,16,6,'1','{"pending":1,"awaiting_approval":1,"completed":2,"failed":1,"skipped":1}','{"started_at":1795536529.3925729,"pause_reason":"decision","paused_at":1795536529.7445188,"open":false}','@FOLDER@/runs/01a20e51-264b-7368-808a-ecbccaad6480','@FOLDER@/plan.yaml','{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":null,"timeout":null,"first_tasks":6,"agents":{}}','Kept from an earlier version',NULL,NULL);
INSERT INTO "runs" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827','completed',1.79553652976723217967e+09,1.79553652980845379833e+09,1795536530.13394,1,NULL,NULL,NULL,NULL,NULL,21,8,'2','{"completed":4,"failed":1,"skipped":1}','{"started_at":1795536529.8084538,"finished_at":1795536530.13394,"open":false}','@FOLDER@/runs/01a20e51-295e-76f6-94ad-6a002dc9b827','@FOLDER@/whole.yaml','{"model":null,"model_object":false,"max_tasks":null,"base_dir":"@FOLDER@","max_parallel":null,"timeout":null,"first_tasks":6,"agents":{}}','Kept from an earlier version',NULL,NULL);
INSERT INTO "runs" VALUES('0193a5b0-0000-7000-8000-0000000000a1','running',1700000000.25,NULL,NULL,1,1.79553654016487503055e+09,'elsewhere','another boot',1,0.0,2,1,'1208925819614629174706177','{"running":1,"completed":1}','{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}','/somewhere/0193a5b0-0000-7000-8000-0000000000a1','x','{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end',NULL,'zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end');
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
INSERT INTO "tasks" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',0,'hello','completed',1,'command','ddc57dca0385-1',1.79553652939257287974e+09,1.79553652952415943142e+09,0,'{}',NULL,'{"id":"hello","agent":"command"}',NULL,0,'tasks/hello/1/output.txt',NULL,NULL,NULL,'hello world');
INSERT INTO "tasks" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',1,'data','completed',1,'command','ddc57dca0385-3',1.79553652952423453336e+09,1.79553652963226032263e+09,0,'{}',NULL,'{"id":"data","depends_on":["hello"],"agent":"command"}',NULL,1,'tasks/data/1/output.txt',NULL,NULL,'{"answer":42}','');
INSERT INTO "tasks" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',2,'flaky','failed',2,'command','ddc57dca0385-4',1.79553652965592646598e+09,1.79553652974443364144e+09,3,'{"retries":1}',NULL,'{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}','sh exited with code 3, without any output',0,'tasks/flaky/2/output.txt',NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',3,'after','skipped',0,'command',NULL,NULL,1.79553652974443364144e+09,NULL,'{}',NULL,'{"id":"after","depends_on":["flaky"],"agent":"command"}','dependency ''flaky'' failed',0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',4,'gate','awaiting_approval',0,'command',NULL,NULL,NULL,NULL,'{}',NULL,'{"id":"gate","depends_on":["data"],"agent":"command","approval":true}',NULL,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20e51-264b-7368-808a-ecbccaad6480',5,'last','pending',0,NULL,NULL,NULL,NULL,NULL,'{}',NULL,'{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}',NULL,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',0,'hello','completed',1,'command','a57d58b3630e-1',1.79553652980845379833e+09,1.79553652985582876209e+09,0,'{}',NULL,'{"id":"hello","agent":"command"}',NULL,0,'tasks/hello/1/output.txt',NULL,NULL,NULL,'hello world');
INSERT INTO "tasks" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',1,'data','completed',1,'command','a57d58b3630e-3',1.79553652985589742656e+09,1.79553652988940167425e+09,0,'{}',NULL,'{"id":"data","depends_on":["hello"],"agent":"command"}',NULL,1,'tasks/data/1/output.txt',NULL,NULL,'{"answer":42}','');
INSERT INTO "tasks" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',2,'flaky','failed',2,'command','a57d58b3630e-5',1.79553653000612521177e+09,1.79553653005281281477e+09,3,'{"retries":1}',NULL,'{"id":"flaky","agent":"command","failure_strategy":"skip","max_retries":1}','sh exited with code 3, without any output',0,'tasks/flaky/2/output.txt',NULL,NULL,NULL,'');
INSERT INTO "tasks" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',3,'after','skipped',0,'command',NULL,NULL,1.79553653005281281477e+09,NULL,'{}',NULL,'{"id":"after","depends_on":["flaky"],"agent":"command"}','dependency ''flaky'' failed',0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',4,'gate','completed',1,'command','a57d58b3630e-4',1.79553652990801477433e+09,1.79553652996135377885e+09,0,'{}',NULL,'{"id":"gate","depends_on":["data"],"agent":"command"}',NULL,0,'tasks/gate/1/output.txt',NULL,NULL,NULL,'approved: 42');
INSERT INTO "tasks" VALUES('01a20e51-295e-76f6-94ad-6a002dc9b827',5,'last','completed',1,'command','a57d58b3630e-6',1.79553653005289626121e+09,1.79553653013389730459e+09,0,'{}',NULL,'{"id":"last","depends_on":["gate","flaky"],"agent":"command","run_if":"all_done"}',NULL,0,'tasks/last/1/output.txt',NULL,NULL,NULL,'end');
INSERT INTO "tasks" VALUES('0193a5b0-0000-7000-8000-0000000000a1',0,'plain','running',1,NULL,'handle-0',1700000001.5,NULL,NULL,'{}',NULL,'{"id":"plain"}',NULL,0,NULL,NULL,NULL,NULL,NULL);
INSERT INTO "tasks" VALUES('0193a5b0-0000-7000-8000-0000000000a1',1,'full','completed',3,'an agent','h',1.25,2.5,-9,'{"retries":2}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end','{"id":"full"}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end',1,'tasks/full/1/output.txt',1099511627776,'00ff','{"text":"zażółć 🐙   \u001b[31m ''quoted'' \"twice\" {{ braces }} %s :name ? \\ \r\n\t end","nul":"a\u0000b","list":[null,true,1.5,[],{}],"big":1180591620717411303424,"":0}','zażółć 🐙   [31m ''quoted'' "twice" {{ braces }} %s :name ? \ 
	 end');
CREATE INDEX ix_commands_run_id ON commands (run_id, id);
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('commands',2);
COMMIT;
