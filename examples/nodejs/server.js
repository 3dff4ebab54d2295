// A web server with one dependency. It listens where Berth tells it to, and finishes its requests when told to stop.
import { readFileSync } from 'node:fs';
import express from 'express';

const version = readFileSync(new URL('./VERSION', import.meta.url), 'utf8').trim();
const app = express();
app.get('/', (request, response) => response.type('text').send(`Hello from Berth (nodejs) version ${version}\n`));
app.get('/healthz', (request, response) => response.type('text').send('ok\n'));

const server = app.listen(Number(process.env.PORT ?? 8080), () => console.log(`listening on port ${server.address().port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
